//! Compiled seccomp programs, kept on disk: libseccomp needs milliseconds to compile a profile, and containers share
//! profiles. The cache is optional: if anything is wrong with it, the program is compiled. It runs in the runtime
//! process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, mkdirat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{Result, error};
use crate::plan::seccomp::{Filter, MOST_INSTRUCTIONS};

/// The largest number of stored programs.
const MOST_FILES: usize = 64;

/// A temporary file of this age was left by a writer that has ended.
const STALE: Duration = Duration::from_secs(60);

/// The size of struct sock_filter in bytes.
const INSTRUCTION: usize = 8;

/// A file is the program followed by its SHA-256. The sum finds a file that was half written when the machine stopped.
const SUM: usize = 32;

/// The longest file.
const MOST_BYTES: usize = MOST_INSTRUCTIONS * INSTRUCTION + SUM;

/// The cache's directory in the root. The name is not a valid id.
const CACHE: &CStr = c".@cache";

/// Its name in older versions, which is also a valid id.
const OLDER_CACHE: &CStr = c".cache";

/// The BPF program of `filter`, for seccomp(2). It is read from `<root>/.@cache/seccomp/<key>` if that file belongs to us
/// and is whole. Otherwise it is compiled, and stored there for the next container. A cache that cannot be written is
/// not an error.
///
/// # Errors
/// The fault that the compiler found.
pub fn compiled(filter: &Filter, root: &Path) -> Result<Vec<u8>> {
    let key = filter.key();
    let cache = directory(root);
    if let Some(program) = cache.as_ref().ok().and_then(|cache| load(cache, &key)) {
        return Ok(program);
    }
    let program = filter.compile().map_err(|fault| error!("{fault}"))?;
    if let Ok(cache) = cache {
        // The container starts without the cache as well.
        let _ = store(&cache, &key, &program);
    }
    Ok(program)
}

/// Opens `<root>/.@cache/seccomp`, and makes it if it is missing. Every directory below root must belong to us, and
/// only we may write it.
fn directory(root: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut dir = openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH, Mode::empty())?;
    for name in [CACHE, c"seccomp"] {
        dir = match openat(&dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                if name == CACHE {
                    take_over(&dir);
                }
                match mkdirat(&dir, name, Mode::RWXU) {
                    // Another process has made it.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(err) => return Err(err),
                }
                openat(&dir, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        if !is_ours(&fstat(&dir)?) {
            return Err(Errno::PERM);
        }
    }
    Ok(dir)
}

/// Renames an older version's cache, so that its name is free for a container.
fn take_over(root: &OwnedFd) {
    if statat(root, c".cache/seccomp", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        // If this fails, the old cache stays, which is harmless.
        let _ = renameat_with(root, OLDER_CACHE, root, CACHE, RenameFlags::NOREPLACE);
    }
}

/// True if the file belongs to us and only we can write it.
fn is_ours(stat: &Stat) -> bool {
    let others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    stat.st_uid == rustix::process::geteuid().as_raw() && !others
}

/// Reads the program stored under `key`. None if anything about the file is unexpected.
fn load(cache: &OwnedFd, key: &str) -> Option<Vec<u8>> {
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(cache, key, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    let size = usize::try_from(stat.st_size).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || !is_ours(&stat) || !(SUM + INSTRUCTION..=MOST_BYTES).contains(&size) || !size.is_multiple_of(8) {
        return None;
    }
    let mut program = vec![0; size];
    File::from(file).read_exact(&mut program).ok()?;
    let whole = sum(key, &program[..size - SUM]) == program[size - SUM..];
    program.truncate(size - SUM);
    whole.then_some(program)
}

/// The sum that follows a program in its file. It includes the key, so a program under another name does not match.
fn sum(key: &str, program: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(key).chain_update(program).finalize().into()
}

/// Stores `program` completely, or not at all. Makes room for it first.
fn store(cache: &OwnedFd, key: &str, program: &[u8]) -> std::io::Result<()> {
    make_room(cache)?;
    let temporary = format!(".{key}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(cache, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let stored = file
        .write_all(program)
        .and_then(|()| file.write_all(&sum(key, program)))
        .and_then(|()| Ok(renameat(cache, &temporary, cache, key)?));
    if stored.is_err() {
        // `make_room` removes it later.
        let _ = unlinkat(cache, &temporary, AtFlags::empty());
    }
    stored
}

/// Removes the oldest programs, so that at most `MOST_FILES` remain with the new one. Removes the temporary files of
/// killed writers, too.
fn make_room(cache: &OwnedFd) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let stale = now.saturating_sub(i64::try_from(STALE.as_secs()).unwrap_or(0));
    let mut programs = Vec::new();
    for entry in Dir::read_from(cache)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let Ok(stat) = statat(cache, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if !name.to_bytes().starts_with(b".") {
            programs.push((stat.st_mtime, stat.st_mtime_nsec, name.to_owned()));
        } else if stat.st_mtime < stale {
            // Another process may have removed it. A file that stays is removed by the next writer.
            let _ = unlinkat(cache, name, AtFlags::empty());
        }
    }
    programs.sort();
    let surplus = (programs.len() + 1).saturating_sub(MOST_FILES);
    for (_, _, name) in &programs[..surplus] {
        // As above.
        let _ = unlinkat(cache, name, AtFlags::empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;
    use crate::plan::seccomp;
    use crate::sys::{self, seccomp::Program};
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn filter(errno: u32) -> Filter {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno,
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        seccomp::filter(&serde_json::from_value(profile).unwrap(), &At::new("linux.seccomp")).unwrap().0
    }

    /// A root with one program in its cache.
    fn cached() -> (TempDir, Filter, PathBuf) {
        let (root, filter) = (tempfile::tempdir().unwrap(), filter(1));
        compiled(&filter, root.path()).unwrap();
        let file = root.path().join(".@cache/seccomp").join(filter.key());
        (root, filter, file)
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join(".@cache/seccomp")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Puts another program with a valid sum into `file`, and returns it.
    fn mark(file: &Path, key: &str) -> Vec<u8> {
        let other = filter(99).compile().unwrap();
        fs::write(file, [other.as_slice(), &sum(key, &other)].concat()).unwrap();
        other
    }

    #[test]
    fn the_second_container_gets_the_stored_program() {
        let (root, filter, file) = cached();
        for (path, mode) in [(".@cache", 0o700), (".@cache/seccomp", 0o700)] {
            assert_eq!(fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777, mode);
        }
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(root.path()), [filter.key()]);
        assert_eq!(compiled(&filter, root.path()).unwrap(), filter.compile().unwrap());
        // If the program is read and not compiled, it is the one in the file.
        let other = mark(&file, &filter.key());
        assert_eq!(compiled(&filter, root.path()).unwrap(), other);
    }

    #[test]
    fn a_file_that_is_not_whole_or_not_ours_is_replaced() {
        let spoilers: [fn(&Path, &str); 6] = [
            |file, key| {
                mark(file, key);
                fs::set_permissions(file, fs::Permissions::from_mode(0o620)).unwrap();
            },
            |file, _| fs::write(file, []).unwrap(),
            |file, _| {
                let bytes = fs::read(file).unwrap();
                fs::write(file, &bytes[..bytes.len() - 8]).unwrap();
            },
            |file, _| {
                let mut bytes = fs::read(file).unwrap();
                bytes[4] ^= 1;
                fs::write(file, bytes).unwrap();
            },
            |file, key| {
                let elsewhere = file.with_extension("elsewhere");
                mark(&elsewhere, key);
                fs::remove_file(file).unwrap();
                symlink(elsewhere, file).unwrap();
            },
            |file, _| {
                mark(file, "the key of another profile");
            },
        ];
        for (n, spoil) in spoilers.iter().enumerate() {
            let (root, filter, file) = cached();
            spoil(&file, &filter.key());
            assert_eq!(compiled(&filter, root.path()).unwrap(), filter.compile().unwrap(), "{n}");
            // The bad file was replaced by a regular one.
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{n}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600, "{n}");
        }
    }

    #[test]
    fn without_a_cache_it_is_compiled() {
        let filter = filter(1);
        let expected = filter.compile().unwrap();
        assert_eq!(compiled(&filter, Path::new("/proc/self/no such root")).unwrap(), expected);
        let root = tempfile::tempdir().unwrap();
        // A cache that others can write, or that is a link, is not used.
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), root.path().join(".@cache")).unwrap();
        assert_eq!(compiled(&filter, root.path()).unwrap(), expected);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        fs::remove_file(root.path().join(".@cache")).unwrap();
        fs::create_dir(root.path().join(".@cache")).unwrap();
        fs::set_permissions(root.path().join(".@cache"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(compiled(&filter, root.path()).unwrap(), expected);
        assert_eq!(fs::read_dir(root.path().join(".@cache")).unwrap().count(), 0);
    }

    #[test]
    fn the_cache_of_an_older_version_is_taken_over() {
        let (root, filter, file) = cached();
        let other = mark(&file, &filter.key());
        let older = root.path().join(".cache");
        fs::rename(root.path().join(".@cache"), &older).unwrap();
        assert_eq!(compiled(&filter, root.path()).unwrap(), other);
        assert!(!older.exists() && file.exists());
        // A container can have that name.
        fs::create_dir(&older).unwrap();
        fs::remove_dir_all(root.path().join(".@cache")).unwrap();
        compiled(&filter, root.path()).unwrap();
        assert!(older.exists() && file.exists());
    }

    #[test]
    fn the_cache_does_not_grow_without_bound() {
        let (root, first, file) = cached();
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        File::open(&file).unwrap().set_modified(long_ago).unwrap();
        let left_over = root.path().join(".@cache/seccomp/.left.1");
        fs::write(&left_over, "half").unwrap();
        File::open(&left_over).unwrap().set_modified(long_ago).unwrap();
        fs::write(root.path().join(".@cache/seccomp/.fresh.2"), "being written").unwrap();
        for errno in 2..=70 {
            compiled(&filter(errno), root.path()).unwrap();
        }
        let names = names(root.path());
        assert_eq!(names.len(), MOST_FILES + 1);
        assert!(!names.contains(&first.key()) && names.contains(&filter(70).key()));
        assert!(names.contains(&".fresh.2".to_owned()) && !left_over.exists());
    }

    fn stock_filter() -> Filter {
        let profile = seccomp::stock_profile(437);
        seccomp::filter(&serde_json::from_value(profile).unwrap(), &At::new("linux.seccomp")).unwrap().0
    }

    #[test]
    fn the_kernel_takes_a_stock_profile_and_does_what_it_says() {
        let filter = stock_filter();
        let program = Program::from_bytes(&filter.compile().unwrap()).unwrap();
        // A filter belongs to one thread: it does not change the other tests.
        let said = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(sys::seccomp::load(&program, filter.flags()).unwrap().is_none());
            // clone3 returns ENOSYS, and the C library uses clone, which the profile allows.
            let answer = std::thread::spawn(|| 42).join().unwrap();
            let file = File::open("/dev/null").unwrap();
            (answer, nix::sched::setns(file, nix::sched::CloneFlags::empty()))
        });
        // Without the filter it returns EINVAL.
        assert_eq!(said.join().unwrap(), (42, Err(nix::errno::Errno::EPERM)));
    }
}
