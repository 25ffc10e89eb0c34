//! The container can never write our binary (CVE-2019-5736). A process of it can become /proc/self/exe, by its name or as
//! an interpreter: the file there cannot be opened for writing, neither now nor when we are long gone.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Result, bail, error};
use crate::plan::failure::words;
use crate::sys::exec::{Strings, execveat};
use crate::sys::image::{self, Image, OwnFile};

/// The proof of it, which every launch needs.
#[derive(Debug)]
pub struct Protected {
    /// The mount that our program was mapped from anew, which it no longer needs. The kernel takes a mount apart when its
    /// last descriptor is closed, and that waits for all CPUs (synchronize_rcu_expedited): it is closed while init is at work.
    mount: Option<OwnedFd>,
    by: By,
}

/// Who has made sure of it.
#[derive(Debug)]
pub(super) enum By {
    /// This process, for itself and its children.
    Us,
    /// The child, as the first thing it does: it maps our program again from this file, and closes it.
    Child(Box<Image>, Option<OwnFile>),
    /// Our caller.
    Caller,
}

impl Protected {
    /// It is the caller's matter.
    pub fn by_caller() -> Protected {
        Protected { mount: None, by: By::Caller }
    }

    /// Makes ready what the child needs to make sure of it. Nothing of this process changes, and it may have many threads.
    ///
    /// # Errors
    /// Our program's file cannot be opened, mounted or copied.
    pub fn in_child() -> Result<Protected> {
        let failed = |errno| error!("protect our own binary: {}", words(errno));
        let image = Image::of_now().map_err(failed)?;
        let (file, mount) = match OwnFile::by_read_only_mount() {
            Ok((file, mount)) => (file, Some(mount)),
            // no CAP_SYS_ADMIN, or an old kernel: a copy in memory
            Err(_) => (OwnFile::sealed_copy().map_err(failed)?, None),
        };
        Ok(Protected { mount, by: By::Child(Box::new(image), Some(file)) })
    }

    /// Splits what must be closed before the container can see us from what the child needs.
    pub(super) fn into_parts(self) -> (Option<OwnedFd>, By) {
        (self.mount, self.by)
    }
}

/// Makes sure of it. Our program is mapped anew from a detached read-only mount of its file, in tens of microseconds. Where
/// that is not allowed, or we are not alone in the program, we run ourselves again from a sealed copy in memory, and this
/// returns in the second run.
///
/// What is found is never believed, except for a seal: a mount that is read-only now can be made writable later, by
/// whoever has it in their mount namespace. Once its descriptor is closed, the detached mount is in no mount namespace at all,
/// and then nobody can change it (mount_setattr(2): EINVAL). Before that, everybody with CAP_SYS_ADMIN in some user
/// namespace and a descriptor of the file can: no container may see us before it is closed.
///
/// # Errors
/// Neither way works.
pub fn protect() -> Result<Protected> {
    let mapped = OwnFile::by_read_only_mount().and_then(|(file, mount)| {
        image::take_from(&file)?;
        Ok(mount)
    });
    match mapped {
        Ok(mount) => Ok(Protected { mount: Some(mount), by: By::Us }),
        Err(_) if image::is_sealed() => Ok(Protected { mount: None, by: By::Us }),
        // no CAP_SYS_ADMIN, several threads, or an old kernel
        Err(_) => {
            let copy = OwnFile::sealed_copy();
            run_again(&copy.map_err(|errno| error!("sealed copy of our own binary: {}", words(errno)))?)
        }
    }
}

fn run_again(own: &OwnFile) -> Result<Protected> {
    let args = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let env = strings(std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    }))?;
    let errno = execveat(own.as_fd(), &args, &env);
    bail!("run our own binary again, protected: {}", words(errno))
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> Result<Strings> {
    Ok(Strings::of(list.map(CString::new).collect::<Result<Vec<_>, _>>()?))
}
