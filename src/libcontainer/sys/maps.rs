//! The mappings of files in our own memory (proc_pid_maps(5)). Nothing here uses the heap: a child reads them, too.

use std::ffi::c_int;
use std::path::Path;

use rustix::io::Errno;

use super::kernel_file::read_pieces;

/// How much of a line is read: the name of the file, which comes last, is not needed.
const LINE: usize = 128;

/// A mapping of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    pub begin: usize,
    pub end: usize,
    /// `PROT_READ` and the like.
    pub protection: c_int,
    /// Where it begins in the file.
    pub offset: libc::off_t,
    pub file: MappedFile,
}

/// Two mappings of one file have the same. The device is not always the one of stat(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MappedFile {
    device: [u32; 2],
    inode: u64,
}

impl Mapping {
    /// Whether it contains this address.
    pub fn contains(&self, address: usize) -> bool {
        (self.begin..self.end).contains(&address)
    }

    /// From the begin of a line. None if it maps no file.
    fn parse(line: &[u8]) -> Option<Mapping> {
        let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.as_bytes();
        let (offset, device, inode) = (fields.next()?, fields.next()?.split_once(':')?, fields.next()?);
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let part = |text| u32::from_str_radix(text, 16).ok();
        let has = |letter: u8, protection| if permissions.contains(&letter) { protection } else { 0 };
        let file = MappedFile { device: [part(device.0)?, part(device.1)?], inode: inode.parse().ok()? };
        (file.inode != 0).then_some(Mapping {
            begin: hex(begin)?,
            end: hex(end)?,
            protection: has(b'r', libc::PROT_READ) | has(b'w', libc::PROT_WRITE) | has(b'x', libc::PROT_EXEC),
            offset: libc::off_t::from_str_radix(offset, 16).ok()?,
            file,
        })
    }
}

/// Calls `take` with each mapping of a file.
///
/// # Errors
/// Those of open(2) and read(2).
pub(super) fn each(mut take: impl FnMut(Mapping)) -> Result<(), Errno> {
    let (mut line, mut length) = ([0u8; LINE], 0);
    read_pieces(Path::new("/proc/self/maps"), |bytes| {
        for byte in bytes {
            if *byte == b'\n' {
                // A name need not be UTF-8.
                let fields = line[..length].iter().position(|byte| *byte == b'/').unwrap_or(length);
                Mapping::parse(&line[..fields]).into_iter().for_each(&mut take);
                length = 0;
            } else if length < LINE {
                line[length] = *byte;
                length += 1;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mapping_if_it_has_a_file() {
        let line = b"7f41c2a00000-7f41c2a25000 r-xp 00001000 fe:0a 1048601                    ";
        let file = MappedFile { device: [0xfe, 0xa], inode: 1_048_601 };
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let mapping = Mapping { begin: 0x7f41_c2a0_0000, end: 0x7f41_c2a2_5000, protection, offset: 0x1000, file };
        assert_eq!(Mapping::parse(line), Some(mapping));
        assert!(mapping.contains(0x7f41_c2a0_0000) && !mapping.contains(0x7f41_c2a2_5000));
        for other in [&b"7ffd0000-7ffe0000 rw-p 00000000 00:00 0 [stack]"[..], b"", b"7f-", b"a-b r--p 0 fe:0a"] {
            assert_eq!(Mapping::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn our_own_code_is_mapped() {
        let mut found = None;
        let here = our_own_code_is_mapped as *const () as usize;
        each(|mapping| found = found.or(Some(mapping).filter(|mapping| mapping.contains(here)))).unwrap();
        assert_eq!(found.unwrap().protection, libc::PROT_READ | libc::PROT_EXEC);
    }
}
