//! The packets between the runtime process and init: one size, one type for each direction, encoded by hand. Init uses
//! only read(2) and write(2) for them: few seccomp profiles deny these calls.

use rustix::io::Errno;

/// The size of a packet from init, in bytes.
pub const UP_SIZE: usize = 256;
/// The largest number of bytes of the kernel's own words in a failure.
pub const WORDS_SIZE: usize = 200;
/// The place of the numbers of a failure, after its words.
const NUMBERS: usize = 16 + WORDS_SIZE;

/// Something that init cannot do itself. It sends the request, and waits for the runtime's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write uid_map and gid_map.
    IdMaps,
    /// Write timens_offsets.
    TimeOffsets,
    /// Move init into the container's cgroup, if it is not there yet. Init sends this if systemd must move it, or if
    /// neither clone3(2) nor init itself could.
    Cgroup,
    /// Make a cgroup below the container's own, move init there, and give it to the container.
    Delegate,
    /// Set the resource limits that init cannot set: the runtime may raise a limit where init, in a user namespace, may
    /// not (prlimit(2)).
    Limits,
    /// Set the scheduler of a process that has given up its rights.
    Scheduler,
    /// Run hooks in the runtime's namespaces.
    Hooks(HookPoint),
    /// Send the seccomp listener to its agent. The packet carries the listener.
    SeccompListener,
    /// Move the network devices into the container.
    NetDevices,
    /// Send the tree to mount, by the slot of its source. The answer carries it.
    Tree(u32),
    /// Apply the maps of the user namespace in this slot to a mount. The packet carries the mount. Init may have no
    /// rights over that user namespace (mount_setattr(2)).
    MapIds(u32),
    /// Check whether this mount namespace has a complete proc or sysfs that the plan does not unmount (`--no-pivot`).
    CheckViews,
    /// Warn: init has kept a file of the image at the path of the default device with this number.
    Kept(u32),
}

/// When hooks run (runtime.md, lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// prestart and createRuntime, one after the other, in the runtime's namespaces.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, after `start`, before the program.
    StartContainer,
}

/// Every message from init, one packet each.
#[allow(clippy::large_enum_variant)] // init has no heap, and only one exists at a time
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// A request.
    Request(Request),
    /// The set-up is done.
    Ready,
    /// A step failed.
    Failed(Failure),
}

/// The failure of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step's index in the list that init runs.
    pub step: u32,
    /// The kernel's error.
    pub errno: Errno,
    /// More about it.
    pub said: Words,
}

/// A short text that needs no heap, and its subject.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words {
    about: About,
    length: u8,
    bytes: [u8; WORDS_SIZE],
}

/// The subject of a failure, if the message depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Only the text describes it.
    Text,
    /// The mount point does not exist, and cannot be made. There is no text.
    NoPlace,
    /// A file would be mounted on a directory. There is no text.
    FileOnDirectory,
    /// A directory would be mounted on a file. There is no text.
    DirectoryOnFile,
    /// The text is the name of a file that could not be copied (`tmpcopyup`).
    Copy,
    /// The path of the program with this number in the list of candidates. There is no text.
    Candidate(u32),
    /// The hook with this index in its list, and its failure.
    Hook(u32, Ending),
}

/// How a hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not begun: the text names the system call that failed.
    Call,
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed after its timeout of this many seconds.
    Late(u32),
}

/// The only answer of the runtime: init may continue. The end of the stream means that init must end.
pub const GO: [u8; 1] = [1];

impl Words {
    /// No words.
    pub const NONE: Words = Words { about: About::Text, length: 0, bytes: [0; WORDS_SIZE] };

    /// As many of `bytes` as fit.
    #[allow(clippy::cast_possible_truncation)] // WORDS_SIZE < 256
    pub fn of(bytes: &[u8]) -> Words {
        let mut words = Words::NONE;
        let length = bytes.len().min(WORDS_SIZE);
        words.bytes[..length].copy_from_slice(&bytes[..length]);
        words.length = length as u8;
        words
    }

    /// The same text, with another subject.
    #[must_use]
    pub fn about(self, about: About) -> Words {
        Words { about, ..self }
    }

    /// Its subject.
    pub fn subject(&self) -> About {
        self.about
    }

    /// The text. Bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// True if it has neither a text nor a subject.
    pub fn is_empty(&self) -> bool {
        self.length == 0 && self.about == About::Text
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.about, self.text())
    }
}

impl About {
    /// Its kind, and two numbers.
    fn code(self) -> (u8, [u8; 4], [u8; 4]) {
        let plain = |kind| (kind, [0; 4], [0; 4]);
        match self {
            About::Text => plain(0),
            About::NoPlace => plain(1),
            About::FileOnDirectory => plain(2),
            About::DirectoryOnFile => plain(3),
            About::Copy => plain(4),
            About::Candidate(n) => (5, n.to_ne_bytes(), [0; 4]),
            About::Hook(n, Ending::Call) => (6, n.to_ne_bytes(), [0; 4]),
            About::Hook(n, Ending::Status(status)) => (7, n.to_ne_bytes(), status.to_ne_bytes()),
            About::Hook(n, Ending::Signal(signal)) => (8, n.to_ne_bytes(), signal.to_ne_bytes()),
            About::Hook(n, Ending::Late(seconds)) => (9, n.to_ne_bytes(), seconds.to_ne_bytes()),
        }
    }

    fn from_code(kind: u8, n: [u8; 4], more: [u8; 4]) -> Option<About> {
        let n = u32::from_ne_bytes(n);
        Some(match kind {
            0 => About::Text,
            1 => About::NoPlace,
            2 => About::FileOnDirectory,
            3 => About::DirectoryOnFile,
            4 => About::Copy,
            5 => About::Candidate(n),
            6 => About::Hook(n, Ending::Call),
            7 => About::Hook(n, Ending::Status(i32::from_ne_bytes(more))),
            8 => About::Hook(n, Ending::Signal(i32::from_ne_bytes(more))),
            9 => About::Hook(n, Ending::Late(u32::from_ne_bytes(more))),
            _ => return None,
        })
    }
}

impl HookPoint {
    /// The property of `hooks`.
    pub fn name(self) -> &'static str {
        match self {
            HookPoint::CreateRuntime => "createRuntime",
            HookPoint::CreateContainer => "createContainer",
            HookPoint::StartContainer => "startContainer",
        }
    }

    fn code(self) -> u8 {
        match self {
            HookPoint::CreateRuntime => 0,
            HookPoint::CreateContainer => 1,
            HookPoint::StartContainer => 2,
        }
    }

    fn from_code(code: u8) -> Option<HookPoint> {
        [HookPoint::CreateRuntime, HookPoint::CreateContainer, HookPoint::StartContainer]
            .into_iter()
            .find(|point| point.code() == code)
    }
}

/// A request with this kind and number, as bytes.
fn with_number(kind: u8, number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_ne_bytes();
    [kind, a, b, c, d]
}

impl Request {
    fn code(self) -> [u8; 5] {
        match self {
            Request::IdMaps => with_number(0, 0),
            Request::TimeOffsets => with_number(1, 0),
            Request::Cgroup => with_number(2, 0),
            Request::Limits => with_number(3, 0),
            Request::Hooks(point) => with_number(4, point.code().into()),
            Request::SeccompListener => with_number(5, 0),
            Request::NetDevices => with_number(7, 0),
            Request::Tree(slot) => with_number(6, slot),
            Request::MapIds(slot) => with_number(8, slot),
            Request::Scheduler => with_number(9, 0),
            Request::CheckViews => with_number(10, 0),
            Request::Kept(device) => with_number(11, device),
            Request::Delegate => with_number(12, 0),
        }
    }

    fn from_code([kind, number @ ..]: [u8; 5]) -> Option<Request> {
        let number = u32::from_ne_bytes(number);
        Some(match kind {
            0 => Request::IdMaps,
            1 => Request::TimeOffsets,
            2 => Request::Cgroup,
            3 => Request::Limits,
            4 => Request::Hooks(HookPoint::from_code(u8::try_from(number).ok()?)?),
            5 => Request::SeccompListener,
            7 => Request::NetDevices,
            6 => Request::Tree(number),
            8 => Request::MapIds(number),
            9 => Request::Scheduler,
            10 => Request::CheckViews,
            11 => Request::Kept(number),
            12 => Request::Delegate,
            _ => return None,
        })
    }
}

impl Up {
    /// The packet for this message.
    pub fn encode(&self) -> [u8; UP_SIZE] {
        let mut packet = [0; UP_SIZE];
        match self {
            Up::Request(request) => {
                packet[0] = 1;
                packet[1..6].copy_from_slice(&request.code());
            }
            Up::Ready => packet[0] = 3,
            Up::Failed(failure) => {
                packet[0] = 4;
                packet[12..16].copy_from_slice(&failure.step.to_ne_bytes());
                packet[4..8].copy_from_slice(&failure.errno.raw_os_error().to_ne_bytes());
                packet[8] = failure.said.length;
                let (kind, n, more) = failure.said.about.code();
                packet[9] = kind;
                packet[16..16 + WORDS_SIZE].copy_from_slice(&failure.said.bytes);
                packet[NUMBERS..NUMBERS + 4].copy_from_slice(&n);
                packet[NUMBERS + 4..NUMBERS + 8].copy_from_slice(&more);
            }
        }
        packet
    }

    /// The message in a packet. None for a packet that `encode` never makes.
    pub fn decode(packet: &[u8]) -> Option<Up> {
        if packet.len() != UP_SIZE {
            return None;
        }
        let four = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
        let number = i32::from_ne_bytes(four(4));
        Some(match packet[0] {
            1 => Up::Request(Request::from_code([packet[1], packet[2], packet[3], packet[4], packet[5]])?),
            3 => Up::Ready,
            4 => Up::Failed(Failure {
                step: u32::from_ne_bytes(four(12)),
                errno: Errno::from_raw_os_error(number.clamp(1, 4095)),
                said: Words::of(&packet[16..16 + usize::from(packet[8]).min(WORDS_SIZE)]).about(About::from_code(
                    packet[9],
                    four(NUMBERS),
                    four(NUMBERS + 4),
                )?),
            }),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_packet_equals_the_encoded_one() {
        let failed = Failure { step: 70_517, errno: Errno::NOENT, said: Words::of(b"Unknown parameter 'rox'") };
        let asks = [
            Request::IdMaps,
            Request::TimeOffsets,
            Request::Cgroup,
            Request::Limits,
            Request::Scheduler,
            Request::Hooks(HookPoint::CreateContainer),
            Request::Hooks(HookPoint::StartContainer),
            Request::SeccompListener,
            Request::NetDevices,
            Request::Tree(70_517),
            Request::MapIds(70_518),
            Request::CheckViews,
            Request::Kept(5),
            Request::Delegate,
        ];
        let about = [
            About::Text,
            About::NoPlace,
            About::FileOnDirectory,
            About::DirectoryOnFile,
            About::Copy,
            About::Candidate(70_519),
            About::Hook(1, Ending::Call),
            About::Hook(2, Ending::Status(-3)),
            About::Hook(70_520, Ending::Signal(31)),
            About::Hook(0, Ending::Late(u32::MAX)),
        ];
        let about = about.map(|about| Up::Failed(Failure { said: failed.said.about(about), ..failed }));
        let ups = asks.into_iter().map(Up::Request).chain([Up::Ready]).chain(about);
        for up in ups {
            assert_eq!(Up::decode(&up.encode()), Some(up));
        }
    }

    #[test]
    fn a_packet_of_another_size_or_kind_is_refused() {
        assert_eq!(Up::decode(&Up::Ready.encode()[..255]), None);
        assert_eq!(Up::decode(&[9; UP_SIZE]), None);
        assert_eq!(Up::decode(&[]), None);
    }

    #[test]
    fn words_are_cut_to_what_fits() {
        assert_eq!(Words::of(&[b'x'; 300]).bytes().len(), WORDS_SIZE);
        assert!(Words::of(b"").is_empty());
    }
}
