//! The answers of `-v` and `-info`.

use prost::Message as _;

use crate::bootstrap::{print, stdin};
use crate::messages::bootstrap::{RuntimeInfo, RuntimeVersion};
use crate::messages::google::Any;
use crate::options;

/// The name in containerd's configuration.
pub const NAME: &str = "io.containerd.coracle.v1";

/// containerd's name for the type of features(5) of the runtime specification. The value is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the version.
///
/// # Errors
/// Those of writing.
pub fn version() -> Result<(), String> {
    let text = format!(
        "containerd-shim-coracle-v1:\n  Version:  {}\n  Revision: {}\n\n",
        env!("CARGO_PKG_VERSION"),
        libcontainer::COMMIT
    );
    print(text.as_bytes())
}

/// Answers with a `RuntimeInfo`. stdin contains options, or is empty.
///
/// # Errors
/// The options cannot be read.
pub fn info() -> Result<(), String> {
    let any = Any::decode(&*stdin()?).map_err(|error| format!("stdin: {error}"))?;
    let options = if any.value.is_empty() { None } else { Some(options::read(Some(&any))?) };
    let features = serde_json::to_vec(&libcontainer::features()).map_err(|error| format!("features: {error}"))?;
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: libcontainer::COMMIT.to_owned(),
        }),
        options: options.map(|options| Any::of(options::NAME, &options)),
        features: Some(Any { type_url: FEATURES.to_owned(), value: features }),
        annotations: std::collections::BTreeMap::new(),
    };
    print(&info.encode_to_vec())
}
