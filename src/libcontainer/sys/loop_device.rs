//! Loop devices (loop(4)): a file as a block device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::checked;

// linux/loop.h
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_NAME_SIZE: usize = 64;

/// The number of devices that other processes may take before us.
const ATTEMPTS: u32 = 100;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A file as a block device. The device is free again when this is dropped and nobody else uses the device: no mount, for example.
///
/// ```no_run
/// use libcontainer::LoopDevice;
///
/// let device = LoopDevice::of(&std::fs::File::open("/images/root.ext4")?, b"root.ext4")?;
/// println!("{}", device.path().display());
/// // After a mount of it, it can be dropped.
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// The device of this file. It is read-only if the file is open for reading alone. The kernel shows `name` to the administrator.
    ///
    /// # Errors
    /// There is no /dev/loop-control, or the kernel's error.
    pub fn of(file: &File, name: &[u8]) -> io::Result<LoopDevice> {
        let is_read_only = !rustix::fs::fcntl_getfl(file)?.intersects(OFlags::RDWR | OFlags::WRONLY);
        let config = config(file, is_read_only, name);
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        let mut last = Errno::BUSY;
        for _ in 0..ATTEMPTS {
            // SAFETY: LOOP_CTL_GET_FREE has no argument.
            let number = checked(unsafe { libc::syscall(libc::SYS_ioctl, control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(!is_read_only).open(&path)?;
            // one step (Linux 5.8), so a device is never half configured
            match configure(&device, &config) {
                Ok(()) => return Ok(LoopDevice { path, _open: device }),
                // another process has taken it
                Err(Errno::BUSY) => last = Errno::BUSY,
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(last.into())
    }

    /// Its file below /dev.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

fn config(file: &File, is_read_only: bool, name: &[u8]) -> LoopConfig {
    let mut file_name = [0; LO_NAME_SIZE];
    // the last byte stays 0
    for (to, from) in file_name.iter_mut().take(LO_NAME_SIZE - 1).zip(name) {
        *to = *from;
    }
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | if is_read_only { LO_FLAGS_READ_ONLY } else { 0 },
        file_name,
        crypt_name: [0; LO_NAME_SIZE],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    LoopConfig { fd: file.as_raw_fd().cast_unsigned(), block_size: 0, info, reserved: [0; 8] }
}

fn configure(device: impl AsFd, config: &LoopConfig) -> Result<(), Errno> {
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: `config` is a `struct loop_config` for the time of the call. The kernel reads it, and takes its own reference to the file.
    checked(unsafe { libc::syscall(libc::SYS_ioctl, fd, LOOP_CONFIGURE, &raw const *config) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_sizes_of_the_kernel() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
    }
}
