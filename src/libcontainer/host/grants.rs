//! The ids that an administrator grants to a user: /etc/subuid and /etc/subgid (subuid(5)).

use std::path::Path;

use super::user_name;
use crate::sys::kernel_file::read_lossy;

/// The names of our user in the first field of these files: the name, and the uid as a number.
pub fn own_names() -> Vec<String> {
    let uid = rustix::process::getuid().as_raw();
    let users = read_lossy(Path::new("/etc/passwd")).unwrap_or_default();
    user_name(&users, uid).map(str::to_owned).into_iter().chain([uid.to_string()]).collect()
}

/// First id and count of each line for one of the names.
pub fn grants(text: &str, names: &[String]) -> Vec<(u32, u32)> {
    let mine = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        names.iter().any(|own| own == name).then_some((first, count))
    });
    mine.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_a_name_or_number_are_found() {
        let text = "a:100:10\n# b:1:1\n7:200:20\nb:300:x\n";
        assert_eq!(grants(text, &["a".to_owned(), "7".to_owned()]), [(100, 10), (200, 20)]);
        assert_eq!(grants(text, &["b".to_owned()]), []);
    }
}
