//! A text at an address where no process can change it: not by ptrace(2), nor by /proc/PID/mem.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::mapped;

/// A NUL-terminated text in a sealed memory file (memfd_create(2), F_SEAL_WRITE), mapped shared and read-only. A process that has
/// the mapping can be traced, and the tracer cannot write there: a write by force makes a copy only of a private mapping.
#[derive(Debug)]
pub struct Sealed {
    address: *mut libc::c_void,
    length: usize,
}

impl Sealed {
    /// # Errors
    /// Those of memfd_create(2), write(2), fcntl(2) and mmap(2).
    pub fn new(text: &CStr) -> Result<Sealed, Errno> {
        let bytes = text.to_bytes_with_nul();
        let file = rustix::fs::memfd_create(c"", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        if rustix::io::write(&file, bytes)? != bytes.len() {
            return Err(Errno::IO);
        }
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        // SAFETY: a mapping chosen by the kernel overlaps nothing.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes.len(), libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        Ok(Sealed { address: mapped(address)?, length: bytes.len() })
    }

    /// The text, at its address in the mapping.
    pub fn as_c_str(&self) -> &CStr {
        // SAFETY: `new` has written a C string, and nothing writes there after the seal. The mapping lives as long as self.
        unsafe { CStr::from_ptr(self.address.cast()) }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what new() mapped, and self is gone after this.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn nobody_can_write_the_text() {
        let sealed = Sealed::new(c"proc").unwrap();
        assert_eq!(sealed.as_c_str(), c"proc");
        let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
        let there = sealed.as_c_str().as_ptr() as u64;
        assert!(memory.write_at(b"tmp", there).is_err(), "a write by force");
        assert_eq!(sealed.as_c_str(), c"proc");
    }
}
