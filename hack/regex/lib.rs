//! oci-spec checks one property, `execCPUAffinity`, with one regular expression of ASCII. The regex crate would be a tenth of
//! our program for it; regex-lite is in it already.

pub use regex_lite::Regex;
