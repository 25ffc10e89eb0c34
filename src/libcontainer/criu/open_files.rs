//! The open files in a directory of images (criu(8)): `files.img`, with the messages of CRIU's `images/fdinfo.proto`.

use std::path::Path;

use prost::Message;

use super::image_file::{COMMON_MAGIC, ImageFault, decoded};

/// CRIU before 3.3 has another file. Nothing is known about its contents.
const FILES: &str = "files.img";
const FILES_MAGIC: u32 = 0x5630_3138;

/// `file_entry`.
#[derive(Clone, PartialEq, Message)]
struct FileEntry {
    #[prost(message, optional, tag = "3")]
    reg: Option<RegularFile>,
}

/// `reg_file_entry`.
#[derive(Clone, PartialEq, Message)]
struct RegularFile {
    /// A path, which can have any bytes, or the name of a file of the host.
    #[prost(bytes = "vec", required, tag = "6")]
    name: Vec<u8>,
    /// Whether it is a file of the host.
    #[prost(bool, optional, tag = "9")]
    ext: Option<bool>,
}

/// The names of the host's files in the images: a restore must have a descriptor for each of them.
///
/// # Errors
/// The file is not an image of CRIU.
pub fn files_of_the_host(directory: &Path) -> Result<Vec<String>, ImageFault> {
    if !directory.join(FILES).exists() {
        return Ok(Vec::new());
    }
    let all = decoded::<FileEntry>(directory, FILES, &[COMMON_MAGIC, FILES_MAGIC])?;
    let of_the_host = all.into_iter().filter_map(|entry| entry.reg).filter(|file| file.ext == Some(true));
    Ok(of_the_host.map(|file| String::from_utf8_lossy(&file.name).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_host_are_named() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(files_of_the_host(directory.path()), Ok(Vec::new()));
        let file = |name: &[u8], ext| FileEntry { reg: Some(RegularFile { name: name.to_vec(), ext }) };
        let all = [file(b"/\xFF", None), file(b"file[1b:5]", Some(true)), FileEntry { reg: None }];
        let mut bytes: Vec<u8> = [COMMON_MAGIC, FILES_MAGIC].iter().flat_map(|magic| magic.to_le_bytes()).collect();
        for message in all.map(|entry| entry.encode_to_vec()) {
            bytes.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
            bytes.extend(message);
        }
        std::fs::write(directory.path().join(FILES), &bytes).unwrap();
        assert_eq!(files_of_the_host(directory.path()), Ok(vec!["file[1b:5]".to_owned()]));
        std::fs::write(directory.path().join(FILES), &bytes[..20]).unwrap();
        let fault = ImageFault::new(FILES, "it is cut off, or is not an image of criu");
        assert_eq!(files_of_the_host(directory.path()), Err(fault));
    }
}
