//! The command line of a shim: flags in the form of Go, and one action.

use std::path::PathBuf;

/// The parsed arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub namespace: String,
    pub address: String,
    pub id: String,
    pub bundle: Option<PathBuf>,
    /// The socket of the serving process.
    pub socket: PathBuf,
    pub debug: bool,
    pub version: bool,
    pub info: bool,
    pub action: String,
}

/// Reads the arguments: `-name value`, `-name=value`, with one dash or two.
///
/// # Errors
/// A flag that is unknown, or has no value.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            flags.action = arg;
            break;
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let truth = value.as_deref().is_none_or(|value| value == "true");
        let mut text =
            || value.clone().or_else(|| args.next()).ok_or_else(|| format!("flag needs an argument: -{name}"));
        match name {
            "namespace" => flags.namespace = text()?,
            "address" => flags.address = text()?,
            "id" => flags.id = text()?,
            "bundle" => flags.bundle = Some(text()?.into()),
            "socket" => flags.socket = text()?.into(),
            "publish-binary" | "debug-socket" => drop(text()?),
            "debug" => flags.debug = truth,
            "v" | "version" => flags.version = truth,
            "info" => flags.info = truth,
            _ => return Err(format!("flag provided but not defined: -{name}")),
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Flags, String> {
        parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn flags_are_those_of_containerd() {
        let line = "-namespace n -address /a --id=c1 -publish-binary /usr/bin/containerd -bundle /b -debug delete";
        let flags = parsed(line).expect("flags");
        let all = (&*flags.namespace, &*flags.address, &*flags.id, flags.debug, &*flags.action);
        assert_eq!(all, ("n", "/a", "c1", true, "delete"));
        assert_eq!(flags.bundle, Some("/b".into()));
        assert_eq!(parsed("-x"), Err("flag provided but not defined: -x".into()));
        assert_eq!(parsed("-id"), Err("flag needs an argument: -id".into()));
    }
}
