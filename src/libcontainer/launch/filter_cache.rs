//! Compiled seccomp programs, kept on disk: compiling takes libseccomp milliseconds, and containers share profiles. The
//! cache is a convenience. Whatever is wrong with it, the program is compiled anew. Runs in the runtime process.

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

/// How many programs are kept.
const MOST_FILES: usize = 64;

/// A temporary file this old belongs to nobody who is still writing it.
const STALE: Duration = Duration::from_secs(60);

/// The size of struct sock_filter in bytes.
const INSTRUCTION: usize = 8;

/// A file is the program followed by its SHA-256: a machine that went down must not leave half a filter behind.
const SUM: usize = 32;

/// The longest file.
const MOST_BYTES: usize = MOST_INSTRUCTIONS * INSTRUCTION + SUM;

/// The cache's directory in the root, by a name that no container can have.
const CACHE: &CStr = c".@cache";

/// Its name in older versions, which is also an id.
const OLDER_CACHE: &CStr = c".cache";

/// The program of `filter`, for seccomp(2): from `<root>/.@cache/seccomp/<key>` when it is there, is ours and is whole,
/// otherwise compiled, and stored there for the next container. A cache that cannot be written is no error.
///
/// # Errors
/// The fault that compiling found.
pub fn program(filter: &Filter, root: &Path) -> Result<Vec<u8>> {
    let key = filter.key();
    let cache = directory(root);
    if let Some(program) = cache.as_ref().ok().and_then(|cache| load(cache, &key)) {
        return Ok(program);
    }
    let program = filter.compile().map_err(|fault| error!("{fault}"))?;
    if let Ok(cache) = cache {
        // the container starts without it as well
        let _ = store(&cache, &key, &program);
    }
    Ok(program)
}

/// Opens `<root>/.@cache/seccomp`, made where it is missing. Every part below root must be ours alone.
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
                    // somebody else was quicker
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

/// An older version's cache becomes ours, so that its name is free for a container.
fn take_over(root: &OwnedFd) {
    if statat(root, c".cache/seccomp", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        // where it cannot be, it stays there and does no harm
        let _ = renameat_with(root, OLDER_CACHE, root, CACHE, RenameFlags::NOREPLACE);
    }
}

/// True for what belongs to us and nobody else can write.
fn is_ours(stat: &Stat) -> bool {
    let others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    stat.st_uid == rustix::process::geteuid().as_raw() && !others
}

/// The program stored under `key`, unless anything about it is odd.
fn load(cache: &OwnedFd, key: &str) -> Option<Vec<u8>> {
    // NONBLOCK: opening a FIFO must not wait for its writer
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

/// What follows a program in its file. The key is part of it: a program under another's name is not whole.
fn sum(key: &str, program: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(key).chain_update(program).finalize().into()
}

/// Puts `program` into the cache, whole or not at all, and makes room for it first.
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
        let _ = unlinkat(cache, &temporary, AtFlags::empty());
    }
    stored
}

/// Removes the oldest programs, so that one more is at most `MOST_FILES`, and what a killed runtime left half written.
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
            let _ = unlinkat(cache, name, AtFlags::empty());
        }
    }
    programs.sort();
    let surplus = (programs.len() + 1).saturating_sub(MOST_FILES);
    for (_, _, name) in &programs[..surplus] {
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
    use std::time::Instant;
    use tempfile::TempDir;

    fn filter(errno: u32) -> Filter {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno,
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        seccomp::filter(&serde_json::from_value(profile).unwrap(), &At::new("linux.seccomp")).unwrap().0
    }

    /// A root with one program in its cache.
    fn cached() -> (TempDir, Filter, PathBuf) {
        let (root, filter) = (tempfile::tempdir().unwrap(), filter(1));
        program(&filter, root.path()).unwrap();
        let file = root.path().join(".@cache/seccomp").join(filter.key());
        (root, filter, file)
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join(".@cache/seccomp")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Puts another program into `file`, with a proper sum, and says which.
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
        assert_eq!(program(&filter, root.path()).unwrap(), filter.compile().unwrap());
        // that it is read and not compiled shows when the file holds something else
        let other = mark(&file, &filter.key());
        assert_eq!(program(&filter, root.path()).unwrap(), other);
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
            assert_eq!(program(&filter, root.path()).unwrap(), filter.compile().unwrap(), "{n}");
            // what was wrong is gone, and a regular file is there again
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{n}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600, "{n}");
        }
    }

    #[test]
    fn without_a_cache_it_is_compiled() {
        let filter = filter(1);
        let compiled = filter.compile().unwrap();
        assert_eq!(program(&filter, Path::new("/proc/self/no such root")).unwrap(), compiled);
        let root = tempfile::tempdir().unwrap();
        // a cache that others can write, or that leads elsewhere, is not used at all
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), root.path().join(".@cache")).unwrap();
        assert_eq!(program(&filter, root.path()).unwrap(), compiled);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        fs::remove_file(root.path().join(".@cache")).unwrap();
        fs::create_dir(root.path().join(".@cache")).unwrap();
        fs::set_permissions(root.path().join(".@cache"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(program(&filter, root.path()).unwrap(), compiled);
        assert_eq!(fs::read_dir(root.path().join(".@cache")).unwrap().count(), 0);
    }

    #[test]
    fn the_cache_of_an_older_version_is_taken_over() {
        let (root, filter, file) = cached();
        let other = mark(&file, &filter.key());
        let older = root.path().join(".cache");
        fs::rename(root.path().join(".@cache"), &older).unwrap();
        assert_eq!(program(&filter, root.path()).unwrap(), other);
        assert!(!older.exists() && file.exists());
        // a container of that name is none
        fs::create_dir(&older).unwrap();
        fs::remove_dir_all(root.path().join(".@cache")).unwrap();
        program(&filter, root.path()).unwrap();
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
            program(&filter(errno), root.path()).unwrap();
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
        // a filter is a thread's own: the others of this test do not notice
        let said = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(sys::seccomp::load(&program, filter.flags()).unwrap().is_none());
            // clone3 says ENOSYS, and the C library falls back to a clone that the profile allows
            let answer = std::thread::spawn(|| 42).join().unwrap();
            let file = File::open("/dev/null").unwrap();
            (answer, nix::sched::setns(file, nix::sched::CloneFlags::empty()))
        });
        // without the filter it is EINVAL
        assert_eq!(said.join().unwrap(), (42, Err(nix::errno::Errno::EPERM)));
    }

    #[test]
    fn speed_of_the_cache() {
        let filter = stock_filter();
        let root = tempfile::tempdir().unwrap();
        for what in ["miss", "hit", "hit"] {
            let begun = Instant::now();
            let program = program(&filter, root.path()).unwrap();
            println!("{what}: {} instructions in {:?}", program.len() / INSTRUCTION, begun.elapsed());
        }
    }
}
