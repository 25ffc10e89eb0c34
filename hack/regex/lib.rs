//! oci-spec checks one property, `execCPUAffinity`, with one regular expression of ASCII. The regex crate would be a
//! tenth of our program. regex-lite is already in the program.

pub use regex_lite::Regex;
