//! A thread that sends one descriptor when it is there. A seccomp filter is the thread's that loads it: what init may no
//! longer do, a thread that was there before still may (seccomp(2)).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// As long as a packet may be.
const PACKET_SIZE: usize = 256;
const STACK_SIZE: usize = 16384;

/// What both threads have, in a mapping that is never undone.
#[repr(C, align(16))]
struct Shared {
    /// The descriptor to send, plus one; 0 so far.
    number: AtomicI32,
    socket: i32,
    packet: [u8; PACKET_SIZE],
    stack: [u8; STACK_SIZE],
}

/// The thread that waits.
#[derive(Clone, Copy)]
pub struct FdSender(&'static Shared);

impl std::fmt::Debug for FdSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FdSender({})", self.0.number.load(Ordering::Acquire))
    }
}

/// Begins the thread. What it waits for it sends over `socket`, which stays open, with `packet`, and closes. It ends then, or
/// with the process, or at its exec; nobody has to wait for it.
///
/// # Errors
/// Those of mmap(2) and clone(2).
pub fn begin(socket: BorrowedFd<'_>, packet: &[u8; PACKET_SIZE]) -> Result<FdSender, Errno> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping chosen by the kernel overlaps nothing.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), access, kind, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::NOMEM);
    }
    let room = address.cast::<Shared>();
    // SAFETY: the mapping is large enough, aligned to a page, zeroed, which is a valid Shared, and nobody else's so far.
    unsafe {
        (*room).socket = socket.as_raw_fd();
        (*room).packet = *packet;
    }
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    // SAFETY: the stack is the end of the mapping, which is aligned and nobody else's; `wait_and_send` uses nothing but the
    // room, which is never unmapped, and makes only system calls.
    let thread = unsafe { libc::clone(wait_and_send, room.add(1).cast(), flags, address) };
    if thread < 0 {
        return Err(Errno::AGAIN);
    }
    // SAFETY: initialised above; from here on only its atomic changes, and its stack, which nobody looks at.
    Ok(FdSender(unsafe { &*room }))
}

impl FdSender {
    /// Hands the descriptor over.
    pub fn send(self, fd: OwnedFd) {
        self.0.number.store(fd.into_raw_fd() + 1, Ordering::Release);
    }
}

/// The thread: looks every tenth of a millisecond, because no call that would wake it is safe from the filter. It returns,
/// upon which the C library has it exit(2).
extern "C" fn wait_and_send(room: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `begin` passed the address of a Shared that is never unmapped.
    let room = unsafe { &*room.cast::<Shared>() };
    let number = loop {
        match room.number.load(Ordering::Acquire) {
            0 => {
                let pause = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 100_000 };
                let _ = rustix::thread::nanosleep(&pause);
            }
            number => break number - 1,
        }
    };
    let (socket, fds) = (super::fds::inherited(room.socket), [super::fds::inherited(number)]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    // who does not listen any more has nobody to miss it
    while sendmsg(socket, &[IoSlice::new(&room.packet)], &mut control, SendFlags::NOSIGNAL) == Err(Errno::INTR) {}
    // a listener that stays open here keeps calls waiting for an agent that is gone, where the kernel says ENOSYS
    super::fds::close(number);
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
    use std::io::IoSliceMut;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_handed_over_arrives_with_its_packet() {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let fd_sender = begin(theirs.as_fd(), &[7; PACKET_SIZE]).unwrap();
        let file = tempfile::tempfile().unwrap();
        let wanted = rustix::fs::fstat(&file).unwrap().st_ino;
        fd_sender.send(file.into());
        let mut packet = [0u8; PACKET_SIZE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::net::recvmsg(&ours, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .unwrap();
        let got = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        assert_eq!(rustix::fs::fstat(got.unwrap()).unwrap().st_ino, wanted);
        assert_eq!(packet, [7; PACKET_SIZE]);
    }
}
