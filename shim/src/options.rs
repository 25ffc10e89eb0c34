//! The options of the runtime, in the forms in which containerd sends them.

use libcontainer::in_words;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use prost::Message as _;
use rustix::fs::{Mode, OFlags};

use crate::messages::google::Any;
use crate::messages::runc::{CreateOptions, Options, RuntimeOptions};

/// The name of the message.
pub const NAME: &str = "containerd.runc.v1.Options";
const OLD: &str = "containerd.linux.runc.CreateOptions";
const GENERIC: &str = "runtimeoptions.v1.Options";
const FILE: &str = "options.json";
/// The maximum length of a file of options.
const LIMIT: u64 = 1 << 20;

/// Parses `any`; the defaults if it is empty.
///
/// # Errors
/// Options of another runtime, or invalid bytes.
pub fn read(any: Option<&Any>) -> Result<Options, String> {
    let Some(any) = any.filter(|any| !any.value.is_empty()) else { return Ok(Options::default()) };
    if any.is(NAME) {
        return Options::decode(&*any.value).map_err(|error| format!("options: {error}"));
    }
    if any.is(OLD) {
        return CreateOptions::decode(&*any.value).map(Options::from).map_err(|error| format!("options: {error}"));
    }
    if !any.is(GENERIC) && !any.type_url.ends_with(GENERIC) {
        return Err(format!("options: unknown type {}", any.type_url));
    }
    // containerd's CRI for a runtime that it does not know, and Docker
    let generic = RuntimeOptions::decode(&*any.value).map_err(|error| format!("options: {error}"))?;
    if !generic.config_body.is_empty() {
        return of_toml(&String::from_utf8_lossy(&generic.config_body));
    }
    if generic.config_path.is_empty() {
        return Ok(Options::default());
    }
    let text = text_of(&generic.config_path);
    of_toml(&text.map_err(|error| format!("options: {}: {error}", generic.config_path, error = in_words(&error)))?)
}

/// The content of a file. The shim's only loop reads it: a fifo must not make it wait.
fn text_of(path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The options as containerd's TOML encoder writes them: one `Name = value` a line.
fn of_toml(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            // tables contain no option of ours
            break;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("options: {line}: no value"))?;
        let (name, value) = (name.trim().trim_matches(['"', '\'']), without_comment(value).trim());
        let wrong = || format!("options: {name} = {value}: wrong type");
        let truth = || value.parse::<bool>().map_err(|_| wrong());
        let number = || value.parse::<u32>().map_err(|_| wrong());
        let text = || string(value).ok_or_else(wrong);
        match name.to_ascii_lowercase().replace('_', "").as_str() {
            "nopivotroot" => options.no_pivot_root = truth()?,
            "nonewkeyring" => options.no_new_keyring = truth()?,
            "shimcgroup" => options.shim_cgroup = text()?,
            "iouid" => options.io_uid = number()?,
            "iogid" => options.io_gid = number()?,
            "binaryname" => options.binary_name = text()?,
            "root" => options.root = text()?,
            "systemdcgroup" => options.systemd_cgroup = truth()?,
            "criuimagepath" => options.criu_image_path = text()?,
            "criuworkpath" => options.criu_work_path = text()?,
            // an option of another version of containerd
            _ => {}
        }
    }
    Ok(options)
}

/// A value without the comment behind it. People write the file of `config_path`.
fn without_comment(value: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in value.char_indices() {
        match quote {
            // only a basic string has escapes
            Some('"') if escaped || letter == '\\' => escaped = !escaped,
            Some(begun) if letter == begun => quote = None,
            None if letter == '#' => return &value[..at],
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            _ => {}
        }
    }
    value
}

/// A string of TOML on one line.
fn string(value: &str) -> Option<String> {
    if let Some(literal) = value.strip_prefix('\'') {
        return literal.strip_suffix('\'').map(str::to_owned);
    }
    // the escapes of a basic string are also escapes of JSON
    serde_json::from_str(value).ok()
}

/// Writes the options into the bundle, for `delete` and for the administrator.
///
/// # Errors
/// Those of writing the file.
pub fn save(bundle: &Path, options: &Options) -> io::Result<()> {
    fs::write(bundle.join(FILE), serde_json::to_vec(options)?)?;
    fs::write(bundle.join("runtime"), &options.binary_name)
}

/// The options in the bundle. Without that file, the defaults.
pub fn saved(bundle: &Path) -> Options {
    let text = fs::read(bundle.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let expected = Options { systemd_cgroup: true, io_uid: 7, root: "/r \"x\"".into(), ..Options::default() };
        let plain = Any::of(NAME, &expected);
        assert_eq!(read(Some(&plain)), Ok(expected.clone()));
        let with_host = Any { type_url: format!("types.containerd.io/{NAME}"), ..plain };
        assert_eq!(read(Some(&with_host)), Ok(expected.clone()));
        let body = "BinaryName = \"\"\nIoUid = 7\nRoot = \"/r \\\"x\\\"\"\nSystemdCgroup = true\nNew = 3\n";
        let generic = RuntimeOptions { config_body: body.into(), ..RuntimeOptions::default() };
        assert_eq!(read(Some(&Any::of(GENERIC, &generic))), Ok(expected));
        assert_eq!(read(None), Ok(Options::default()));
        let old = CreateOptions { no_pivot_root: true, io_gid: 9, ..CreateOptions::default() };
        let expected = Options { no_pivot_root: true, io_gid: 9, ..Options::default() };
        assert_eq!(read(Some(&Any::of(OLD, &old))), Ok(expected));
    }

    #[test]
    fn a_comment_behind_a_value_is_no_part_of_it() {
        let body = "SystemdCgroup = true # as kubelet\n\"Root\" = \"/r#\\\"#\\\\\"# b\nBinaryName = '/x\\#' # 'c'\nIoUid = 7#\n";
        let read = of_toml(body).expect("options");
        assert_eq!((read.systemd_cgroup, read.io_uid), (true, 7));
        assert_eq!((&*read.root, &*read.binary_name), ("/r#\"#\\", "/x\\#"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let other = Any { type_url: "x.Other".into(), value: vec![1] };
        assert_eq!(read(Some(&other)), Err("options: unknown type x.Other".into()));
        let body = RuntimeOptions { config_body: "SystemdCgroup = 1".into(), ..RuntimeOptions::default() };
        let error = read(Some(&Any::of(GENERIC, &body)));
        assert_eq!(error, Err("options: SystemdCgroup = 1: wrong type".into()));
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo").display().to_string();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        for (config_path, reason) in
            [(fifo, "is not a regular file"), ("/nonexistent".into(), "no such file or directory (ENOENT)")]
        {
            let expected = Err(format!("options: {config_path}: {reason}"));
            let generic = RuntimeOptions { config_path, ..RuntimeOptions::default() };
            assert_eq!(read(Some(&Any::of(GENERIC, &generic))), expected);
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let bundle = tempfile::tempdir().expect("a directory");
        let options = Options { root: "/r".into(), no_pivot_root: true, ..Options::default() };
        save(bundle.path(), &options).expect("save");
        assert_eq!(saved(bundle.path()), options);
        let file = fs::read_to_string(bundle.path().join(FILE)).expect("options.json");
        assert_eq!(file, r#"{"no_pivot_root":true,"root":"/r"}"#);
        assert_eq!(saved(Path::new("/nonexistent")), Options::default());
    }
}
