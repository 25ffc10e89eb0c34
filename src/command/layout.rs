//! An OCI image layout: the config of one image in it (image-spec: image-layout.md, image-index.md, config.md). Each blob must have
//! its digest. Nothing is pulled or unpacked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::internals::wait;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

/// The annotation that names an image in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";
/// An index may lead to another one; not for ever.
const DEPTH: usize = 4;
/// The longest blob that is read. Registries accept manifests of 4 MiB.
const MOST: u64 = 16 << 20;

/// The config of the image that `LAYOUT[:REF]` names. It may be for another platform (`other_platform`).
pub fn config(named: &str) -> Result<Value> {
    let (directory, name) = split(named);
    let index = index(&directory).with_context(|| format!("--from {named}"))?;
    let mut descriptor = choose(&index, name).with_context(|| format!("--from {named}"))?.clone();
    for _ in 0..DEPTH {
        let manifest = blob(&directory, &descriptor).with_context(|| format!("--from {named}"))?;
        if let Some(config) = manifest.get("config") {
            return blob(&directory, config).with_context(|| format!("--from {named}"));
        }
        descriptor = of_platform(&manifest).with_context(|| format!("--from {named}"))?.clone();
    }
    bail!("--from {named}: the indexes refer to each other without end")
}

/// A directory with a colon in its name is one; else the last colon begins the name.
fn split(named: &str) -> (PathBuf, Option<&str>) {
    match named.rsplit_once(':') {
        Some((directory, name)) if !Path::new(named).is_dir() => (directory.into(), Some(name)),
        _ => (named.into(), None),
    }
}

/// A regular file of the layout. Its links do not lead out of it.
fn read(directory: &Path, name: &Path) -> Result<Vec<u8>> {
    wait::contents_below(directory, name, MOST).with_context(|| directory.join(name).display().to_string())
}

fn index(directory: &Path) -> Result<Value> {
    let text = read(directory, Path::new("index.json"))?;
    serde_json::from_slice(&text).with_context(|| directory.join("index.json").display().to_string())
}

/// The document that a descriptor leads to.
fn blob(directory: &Path, descriptor: &Value) -> Result<Value> {
    let (algorithm, hex) = digest(descriptor)?;
    let name = Path::new("blobs").join(algorithm).join(hex);
    let text = read(directory, &name)?;
    let found = match algorithm {
        "sha256" => digits(&Sha256::digest(&text)),
        "sha512" => digits(&Sha512::digest(&text)),
        other => bail!("{other}:{hex}: unknown algorithm {other:?} (expected one of sha256, sha512)"),
    };
    if found != hex {
        bail!("{}: its digest is {algorithm}:{found}: the layout is damaged", directory.join(name).display());
    }
    serde_json::from_slice(&text).with_context(|| directory.join(name).display().to_string())
}

fn digits(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sha256:HEX` is the file `blobs/sha256/HEX`.
fn digest(descriptor: &Value) -> Result<(&str, &str)> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match digest.split_once(':') {
        Some((algorithm, hex)) if plain(algorithm) && plain(hex) => Ok((algorithm, hex)),
        _ => bail!("index.json: {digest:?} is not a digest such as sha256:…"),
    }
}

fn manifests(index: &Value) -> Result<&Vec<Value>> {
    index["manifests"].as_array().filter(|list| !list.is_empty()).ok_or_else(|| anyhow!("index.json: no manifests"))
}

fn choose<'a>(index: &'a Value, name: Option<&str>) -> Result<&'a Value> {
    let all = manifests(index)?;
    let named = |one: &&Value| one["annotations"][NAME].as_str() == name;
    match (name, all.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => bail!("has several images: add :REF, one of {}", names(all)),
        (Some(name), _) => {
            all.iter().find(named).ok_or_else(|| anyhow!("no image {name:?} (there are {})", names(all)))
        }
    }
}

fn names(all: &[Value]) -> String {
    let names: Vec<_> =
        all.iter().map(|one| one["annotations"][NAME].as_str().unwrap_or("one without a name")).collect();
    names.join(", ")
}

/// This processor, in the words of Go.
fn our_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The platform of an image's config, if it is not this one.
pub fn other_platform(config: &Value) -> Option<String> {
    let word = |name: &str| config[name].as_str().unwrap_or("unknown");
    let (os, architecture) = (word("os"), word("architecture"));
    (os != "linux" || architecture != our_architecture()).then(|| format!("{os}/{architecture}"))
}

/// The manifest for Linux on this processor.
fn of_platform(index: &Value) -> Result<&Value> {
    let ours = our_architecture();
    let all = manifests(index)?;
    let fits = |one: &&Value| one["platform"]["os"] == "linux" && one["platform"]["architecture"] == ours;
    let there = || {
        let names = all.iter().filter_map(|one| other_platform(&one["platform"]));
        names.collect::<Vec<_>>().join(", ")
    };
    let found = all.iter().find(fits).or(all.first().filter(|_| all.len() == 1));
    found.ok_or_else(|| anyhow!("no image for linux/{ours} (there are {})", there()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_is_chosen_by_name_and_by_platform() {
        let one = |name: &str| json!({"digest": name, "annotations": {NAME: name}});
        let index = json!({"manifests": [one("a"), one("b")]});
        assert_eq!(choose(&index, Some("b")).unwrap()["digest"], "b");
        assert!(choose(&index, None).unwrap_err().to_string().contains("a, b"));
        assert!(choose(&index, Some("c")).unwrap_err().to_string().contains("no image \"c\""));
        assert!(choose(&json!({}), None).is_err());
        let platform = |arch: &str| json!({"digest": arch, "platform": {"os": "linux", "architecture": arch}});
        let index = json!({"manifests": [platform("s390x"), platform("amd64"), platform("arm64")]});
        let found = of_platform(&index).unwrap()["digest"].as_str().unwrap().to_owned();
        assert!(["amd64", "arm64"].contains(&found.as_str()));
        let index = json!({"manifests": [platform("s390x"), platform("ppc64le")]});
        let said = of_platform(&index).unwrap_err().to_string();
        assert!(said.ends_with("(there are linux/s390x, linux/ppc64le)"), "{said}");
        assert_eq!(other_platform(&json!({"os": "linux", "architecture": our_architecture()})), None);
        assert_eq!(other_platform(&json!({"os": "windows"})).as_deref(), Some("windows/unknown"));
    }

    #[test]
    fn a_digest_is_not_a_path() {
        assert_eq!(digest(&json!({"digest": "sha256:ab12"})).unwrap(), ("sha256", "ab12"));
        for bad in ["", "sha256", "sha256:../x", "../..:ab", "sha256:"] {
            assert!(digest(&json!({"digest": bad})).is_err(), "{bad}");
        }
        assert_eq!(split("/nonexistent:5000/a:b"), (PathBuf::from("/nonexistent:5000/a"), Some("b")));
    }

    #[test]
    fn a_blob_has_its_digest_and_is_a_file_of_the_layout() {
        let layout = tempfile::tempdir().unwrap();
        let blobs = layout.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        // sha256sum of `{}`
        let hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let of = || {
            let found = blob(layout.path(), &json!({"digest": format!("sha256:{hex}")}));
            found.map_err(|error| format!("{error:#}"))
        };
        std::fs::write(blobs.join(hex), "{}").unwrap();
        assert_eq!(of(), Ok(json!({})));
        std::fs::write(blobs.join(hex), "{ }").unwrap();
        assert!(of().unwrap_err().ends_with("the layout is damaged"), "{of:?}", of = of());
        std::fs::remove_file(blobs.join(hex)).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path(), blobs.join(hex)).unwrap();
        assert!(of().unwrap_err().contains("No such file"), "{of:?}", of = of());
    }
}
