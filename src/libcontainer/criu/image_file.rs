//! A file of images, read as messages. The layout is that of CRIU's `include/image.h`.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use prost::Message;

use crate::error::{Error, error};
use crate::printable;
use crate::sys::errno::in_words;
use crate::wait;

/// The first bytes of every file but the inventory.
pub(super) const COMMON_MAGIC: u32 = 0x5456_4319;
/// The longest file that is read. The map of 100 GiB of memory has some MiB.
pub(super) const MOST: u64 = 64 << 20;

/// What is wrong with the images.
///
/// ```
/// // This directory has no images.
/// let (_, faults) = libcontainer::Images::new("examples/bundle").check(None)?;
/// assert_eq!(faults[0].file, "inventory.img");
/// println!("{}: {}", faults[0].file, faults[0].problem);
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFault {
    /// The file in the directory, or the property of config.json.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// One line, whatever names the images contain.
impl fmt::Display for ImageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable::line(&format!("{}: {}", self.file, self.problem)))
    }
}

impl ImageFault {
    /// A fault of this file.
    pub fn new(file: impl Into<String>, problem: impl Into<String>) -> ImageFault {
        ImageFault { file: file.into(), problem: problem.into() }
    }

    /// The error of what cannot be done because of it.
    pub(crate) fn into_error(self) -> Error {
        error!("Images::new: {}: {}", self.file, self.problem)
    }
}

/// The messages in the file `name` of `directory`, as bytes.
pub(super) fn messages_of(directory: &Path, name: &str, magic: &[u32]) -> Result<Vec<Vec<u8>>, ImageFault> {
    let bytes = wait::contents_below(directory, Path::new(name), MOST).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ImageFault::new(name, "does not exist"),
        _ => ImageFault::new(name, in_words(&error).to_string()),
    })?;
    messages(&bytes, magic).ok_or_else(|| ImageFault::new(name, "it is cut off, or is not an image of criu"))
}

/// The messages in the file `name` of `directory`.
pub(super) fn decoded<M: Message + Default>(directory: &Path, name: &str, magic: &[u32]) -> Result<Vec<M>, ImageFault> {
    let all = messages_of(directory, name, magic)?;
    let all: Result<Vec<M>, _> = all.iter().map(|bytes| M::decode(bytes.as_slice())).collect();
    all.map_err(|error| ImageFault::new(name, format!("it is not an image of criu: {error}")))
}

/// The messages in a file: four bytes each of `magic`, then each with its length before it. None if it is another file.
fn messages(bytes: &[u8], magic: &[u32]) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes;
    for expected in magic {
        if take_number(&mut rest)? != *expected {
            return None;
        }
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = take_number(&mut rest)? as usize;
        let (message, after) = rest.split_at_checked(length)?;
        all.push(message.to_vec());
        rest = after;
    }
    Some(all)
}

/// Takes a number from the beginning of `rest`.
fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}
