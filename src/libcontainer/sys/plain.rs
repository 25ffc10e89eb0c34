//! Plain file systems (statfs(2)): to read a file there has no other effect.

use std::os::fd::BorrowedFd;

use rustix::fs::FsWord;

/// The file systems in which opening and reading a file has no effect and always ends: ext2 to ext4, xfs, btrfs, bcachefs, f2fs,
/// zfs, erofs, squashfs, tmpfs, ramfs and overlayfs. The layers of an overlayfs are not checked.
const PLAIN: [FsWord; 11] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xca45_1a4e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xe0f5_e1e2,
    0x7371_7368,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
];

/// True if `file` is in one of them.
pub fn is_plain(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| PLAIN.contains(&stat.f_type))
}
