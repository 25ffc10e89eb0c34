//! A thread that sends one descriptor as soon as it gets one. A seccomp filter restricts the thread that loads it (seccomp(2)):
//! a thread that was there before may still do what init may not.

use std::cell::UnsafeCell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::clone::Alone;
use super::mapped;
use super::retry::retry;

/// The size of a packet, in bytes.
const PACKET_SIZE: usize = 256;
const STACK_SIZE: usize = 16384;

/// The state that both threads share, in a mapping that is never unmapped.
#[repr(C, align(16))]
struct Shared {
    /// The descriptor to send, plus one; 0 while there is no descriptor.
    number: AtomicI32,
    socket: i32,
    packet: [u8; PACKET_SIZE],
    /// Only the thread that waits uses it.
    stack: UnsafeCell<[u8; STACK_SIZE]>,
}

/// The thread that waits.
pub struct FdSender(&'static Shared);

impl std::fmt::Debug for FdSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FdSender({})", self.0.number.load(Ordering::Acquire))
    }
}

/// Begins the thread. It sends the descriptor that it gets (`FdSender::send`) over `socket`, together with `packet`, and closes
/// both. It ends then, or when the process ends or calls execve(2). Nobody has to wait for it. Only a child can do this: the C
/// library does not know of the thread.
///
/// # Errors
/// Those of mmap(2) and clone(2).
pub fn begin(_alone: &Alone, socket: OwnedFd, packet: &[u8; PACKET_SIZE]) -> Result<FdSender, Errno> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping chosen by the kernel overlaps nothing.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), access, kind, -1, 0) };
    let shared = mapped(address)?.cast::<Shared>();
    // SAFETY: the mapping is large enough and aligned to a page. It is zeroed, which is a valid Shared, and only we know it.
    unsafe {
        (*shared).socket = socket.into_raw_fd();
        (*shared).packet = *packet;
    }
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    // SAFETY: the stack is the end of the mapping, which is aligned, and nothing else uses it. `wait_and_send` touches
    // only the mapping, which is never unmapped, and makes only system calls that leave the C library's errno alone:
    // the two threads share it.
    let thread = unsafe { libc::clone(wait_and_send, shared.add(1).cast(), flags, address) };
    if thread < 0 {
        return Err(Errno::AGAIN);
    }
    // SAFETY: initialised above. From now on only its atomics change, and its stack, which is in an `UnsafeCell`.
    Ok(FdSender(unsafe { &*shared }))
}

impl FdSender {
    /// Hands the descriptor over.
    pub fn send(self, fd: OwnedFd) {
        self.0.number.store(fd.into_raw_fd() + 1, Ordering::Release);
    }
}

/// The thread. It looks every tenth of a millisecond, because the filter may deny every call that would wake it. When it
/// returns, the C library ends it (exit(2)).
extern "C" fn wait_and_send(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `begin` passed the address of a Shared that is never unmapped.
    let shared = unsafe { &*shared.cast::<Shared>() };
    let number = loop {
        match shared.number.load(Ordering::Acquire) {
            0 => {
                let pause = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 100_000 };
                let _ = rustix::thread::nanosleep(&pause);
            }
            number => break number - 1,
        }
    };
    // SAFETY: `begin` and `send` have taken both from their owners.
    let (socket, file) = unsafe { (OwnedFd::from_raw_fd(shared.socket), OwnedFd::from_raw_fd(number)) };
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    // a runtime that has ended does not miss it
    let _ = retry(|| sendmsg(&socket, &[IoSlice::new(&shared.packet)], &mut control, SendFlags::NOSIGNAL));
    // if the listener stayed open here, calls would wait for an agent that is gone; without it the kernel returns ENOSYS
    for fd in [file, socket] {
        // SAFETY: this owner gives it up. Its drop would call close(3), which may change errno.
        unsafe { rustix::io::close(fd.into_raw_fd()) };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
    use std::io::IoSliceMut;

    #[test]
    fn a_sent_descriptor_arrives_with_its_packet() {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let file = tempfile::tempfile().unwrap();
        let wanted = rustix::fs::fstat(&file).unwrap().st_ino;
        let (mut theirs, mut file) = (Some(theirs), Some(OwnedFd::from(file)));
        let child = super::super::clone::fork(|alone| {
            let (Some(theirs), Some(file)) = (theirs.take(), file.take()) else { super::super::clone::exit(1) };
            match begin(alone, theirs, &[7; PACKET_SIZE]) {
                Ok(fd_sender) => fd_sender.send(file),
                Err(_) => super::super::clone::exit(2),
            }
            loop {
                let _ = rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 1, tv_nsec: 0 });
            }
        });
        let child = rustix::process::Pid::from_raw(child.unwrap()).unwrap();
        drop(theirs);
        let mut packet = [0u8; PACKET_SIZE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::net::recvmsg(&ours, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
        let got = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        assert_eq!(rustix::fs::fstat(got.unwrap()).unwrap().st_ino, wanted);
        assert_eq!(packet, [7; PACKET_SIZE]);
    }
}
