//! GVariant's text format (<https://docs.gtk.org/glib/gvariant-text-format.html>), for the types that D-Bus has. It
//! accepts what runc's parser accepts, and tuples.

use super::gvariant_reader::{DEEPEST, Parsed, read};
use super::unit::PropertyValue;

/// The longest type in bytes (D-Bus specification, "Valid Signatures").
const LONGEST: usize = 255;

/// The types that contain no other type. Only these can be the key of a dictionary.
const BASIC: &[u8] = b"bynqiuxtdsogh";

/// The value that a text describes.
pub(super) fn parse(text: &str) -> Option<PropertyValue> {
    read(text)?.whole()
}

impl Parsed {
    /// The type that the text names, or the default type of such a value.
    fn signature(&self) -> Option<String> {
        Some(match self {
            Parsed::Typed(signature, _) => signature.clone(),
            Parsed::Bool(_) => "b".to_owned(),
            Parsed::Number(text) if is_double(text) => "d".to_owned(),
            Parsed::Number(_) => "i".to_owned(),
            Parsed::Text(_) => "s".to_owned(),
            Parsed::Bytes(_) => "ay".to_owned(),
            Parsed::Variant(_) => "v".to_owned(),
            Parsed::Array(all) => format!("a{}", common(all.iter())?),
            Parsed::Dict(all) => {
                let (key, value) =
                    (common(all.iter().map(|(key, _)| key))?, common(all.iter().map(|(_, value)| value))?);
                format!("a{{{key}{value}}}")
            }
            Parsed::Tuple(all) => format!("({})", all.iter().map(Parsed::signature).collect::<Option<String>>()?),
        })
    }

    /// Whether the text names a type anywhere in this value.
    fn is_typed(&self) -> bool {
        match self {
            Parsed::Typed(..) => true,
            Parsed::Array(all) | Parsed::Tuple(all) => all.iter().any(Parsed::is_typed),
            Parsed::Dict(all) => all.iter().any(|(key, value)| key.is_typed() || value.is_typed()),
            Parsed::Bool(_) | Parsed::Number(_) | Parsed::Text(_) | Parsed::Bytes(_) | Parsed::Variant(_) => false,
        }
    }

    /// The value in its own type. D-Bus must have that type.
    fn whole(&self) -> Option<PropertyValue> {
        let signature = self.signature()?;
        (signature.len() <= LONGEST && first_type(signature.as_bytes(), 0, 0)? == signature.len()).then_some(())?;
        self.value(&signature)
    }

    /// The value in this type. `whole` has checked the type, so it is ASCII.
    fn value(&self, signature: &str) -> Option<PropertyValue> {
        let (kind, inner) = (signature.chars().next()?, &signature[1..]);
        let is_one = inner.is_empty();
        match (self, kind) {
            (Parsed::Typed(own, node), _) => (own == signature).then(|| node.value(own))?,
            (Parsed::Bool(value), 'b') if is_one => Some(PropertyValue::Bool(*value)),
            (Parsed::Number(text), _) if is_one => number(text, kind),
            (Parsed::Text(text), 's') if is_one => Some(PropertyValue::Text(text.clone())),
            (Parsed::Text(text), 'o' | 'g') if is_one => Some(PropertyValue::Name(kind, text.clone())),
            (Parsed::Bytes(bytes), 'a') if inner == "y" => Some(PropertyValue::Bytes(bytes.clone())),
            (Parsed::Variant(node), 'v') if is_one => Some(PropertyValue::Inner(Box::new(node.whole()?))),
            (Parsed::Array(all), 'a') if !inner.starts_with('{') => list(all, inner),
            (Parsed::Dict(all), 'a') => {
                let pair = inner.strip_prefix('{')?.strip_suffix('}')?;
                let key = pair.get(..1)?;
                let one = |(k, v): &(Parsed, Parsed)| Some((k.value(key)?, v.value(&pair[1..])?));
                Some(PropertyValue::Dict(signature.to_owned(), all.iter().map(one).collect::<Option<_>>()?))
            }
            (Parsed::Tuple(all), '(') => {
                let mut rest = inner.strip_suffix(')')?;
                let mut fields = Vec::new();
                for node in all {
                    let (first, more) = rest.split_at(first_type(rest.as_bytes(), 0, 0)?);
                    fields.push(node.value(first)?);
                    rest = more;
                }
                (rest.is_empty() && !fields.is_empty()).then_some(PropertyValue::Tuple(fields))
            }
            _ => None,
        }
    }
}

/// The type of all elements of an array: the one that an element names, or else double if there is a number with a
/// point.
fn common<'n>(all: impl Iterator<Item = &'n Parsed> + Clone) -> Option<String> {
    let double = |node: &&Parsed| matches!(node, Parsed::Number(text) if is_double(text));
    let says = all.clone().find(|node| node.is_typed());
    match says.or_else(|| all.clone().find(double)) {
        Some(node) => node.signature(),
        None => all.clone().find_map(Parsed::signature),
    }
}

/// Arrays of bytes and of strings have separate variants in `PropertyValue`.
fn list(all: &[Parsed], inner: &str) -> Option<PropertyValue> {
    let values = all.iter().map(|node| node.value(inner)).collect::<Option<Vec<_>>>()?;
    Some(match inner {
        "y" => PropertyValue::Bytes(
            values
                .iter()
                .filter_map(|one| if let PropertyValue::Byte(byte) = one { Some(*byte) } else { None })
                .collect(),
        ),
        "s" => PropertyValue::Texts(
            values
                .into_iter()
                .filter_map(|one| if let PropertyValue::Text(text) = one { Some(text) } else { None })
                .collect(),
        ),
        _ => PropertyValue::List(inner.to_owned(), values),
    })
}

/// The length of the first complete type of a signature. `arrays` and `structs` count the types around it.
fn first_type(signature: &[u8], arrays: usize, structs: usize) -> Option<usize> {
    (arrays <= DEEPEST && structs <= DEEPEST).then_some(())?;
    match signature {
        [b'a', b'{', key, value @ ..] => {
            BASIC.contains(key).then_some(())?;
            let length = first_type(value, arrays + 1, structs + 1)?;
            (value.get(length) == Some(&b'}')).then_some(length + 4)
        }
        [b'a', element @ ..] => Some(1 + first_type(element, arrays + 1, structs)?),
        [b'(', fields @ ..] => {
            let mut length = 0;
            while fields.get(length) != Some(&b')') {
                length += first_type(fields.get(length..)?, arrays, structs + 1)?;
            }
            (length > 0).then_some(length + 2)
        }
        [b'v', ..] => Some(1),
        [one, ..] => BASIC.contains(one).then_some(1),
        [] => None,
    }
}

fn is_double(text: &str) -> bool {
    let hex = text.trim_start_matches(['+', '-']).starts_with("0x");
    !hex && (text.contains(['.', 'e', 'E']) || text.ends_with("inf") || text.ends_with("nan"))
}

/// As in C: `0x` begins a hexadecimal number, `0` an octal one.
fn number(text: &str, kind: char) -> Option<PropertyValue> {
    if kind == 'd' {
        return text.parse().ok().filter(|number: &f64| number.is_finite()).map(PropertyValue::Double);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, base) = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then_some(())?;
    let size = i128::from(u64::from_str_radix(digits, base).ok()?);
    let number = if text.starts_with('-') { -size } else { size };
    Some(match kind {
        'y' => PropertyValue::Byte(number.try_into().ok()?),
        'n' => PropertyValue::Int16(number.try_into().ok()?),
        'q' => PropertyValue::Uint16(number.try_into().ok()?),
        'i' => PropertyValue::Int32(number.try_into().ok()?),
        'u' => PropertyValue::Uint32(number.try_into().ok()?),
        'x' => PropertyValue::Int64(number.try_into().ok()?),
        't' => PropertyValue::Uint64(number.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from the grammar, and from the source of the parser that runc uses (godbus,
    /// variant_parser.go) where that accepts the text.
    #[test]
    fn a_text_is_parsed_to_a_value() {
        let cases = [
            ("true", "Bool(true)"),
            ("false", "Bool(false)"),
            ("boolean true", "Bool(true)"),
            ("-3", "Int32(-3)"),
            ("+3", "Int32(3)"),
            ("1.5", "Double(1.5)"),
            ("1e3", "Double(1000.0)"),
            ("@d 2", "Double(2.0)"),
            ("double 2", "Double(2.0)"),
            ("uint64 5", "Uint64(5)"),
            ("@t 5", "Uint64(5)"),
            ("uint64 0xfFfFfFfFfFfFfFfF", "Uint64(18446744073709551615)"),
            ("int64 -9223372036854775808", "Int64(-9223372036854775808)"),
            ("010", "Int32(8)"),
            ("0", "Int32(0)"),
            ("0x1e", "Int32(30)"),
            ("byte 0x01", "Byte(1)"),
            ("int16 -1", "Int16(-1)"),
            ("uint16 65535", "Uint16(65535)"),
            (r"'a\'b'", r#"Text("a'b")"#),
            (r#""a\"b'c""#, r#"Text("a\"b'c")"#),
            (r"'a\nb\tc\\d\q'", r#"Text("a\nb\tc\\dq")"#),
            (r"'\u00e9\U0001f600!'", r#"Text("é😀!")"#),
            ("'a\\\nb'", r#"Text("ab")"#),
            ("objectpath '/a'", r#"Name('o', "/a")"#),
            ("@g 'as'", r#"Name('g', "as")"#),
            ("['a', \"b,c\"]", r#"Texts(["a", "b,c"])"#),
            ("@as []", "Texts([])"),
            ("@as ['a']", r#"Texts(["a"])"#),
            ("[byte 0x01]", "Bytes([1])"),
            ("@ay [1, 0x02]", "Bytes([1, 2])"),
            ("[1, byte 2]", "Bytes([1, 2])"),
            (r"b'a\x41\n\0'", "Bytes([97, 65, 10, 0, 0])"),
            ("[uint64 1, 2]", r#"List("t", [Uint64(1), Uint64(2)])"#),
            ("[1, 2.5]", r#"List("d", [Double(1.0), Double(2.5)])"#),
            ("[['a'], []]", r#"List("as", [Texts(["a"]), Texts([])])"#),
            ("<'a'>", r#"Inner(Text("a"))"#),
            ("[<1>, <'a'>]", r#"List("v", [Inner(Int32(1)), Inner(Text("a"))])"#),
            ("{'a': uint32 1, 'b': 2}", r#"Dict("a{su}", [(Text("a"), Uint32(1)), (Text("b"), Uint32(2))])"#),
            ("@a{sv} {}", r#"Dict("a{sv}", [])"#),
            ("('a', uint64 1)", r#"Tuple([Text("a"), Uint64(1)])"#),
            ("(1,)", "Tuple([Int32(1)])"),
            ("@a(st) [('/dev/sda', 5)]", r#"List("(st)", [Tuple([Text("/dev/sda"), Uint64(5)])])"#),
            (" [ 'a' ,'b' ] ", r#"Texts(["a", "b"])"#),
        ];
        for (text, expected) in cases {
            let said = parse(text).map(|value| format!("{value:?}"));
            assert_eq!(said.as_deref(), Some(expected), "{text}");
        }
    }

    /// Where runc's parser differs, by its source (godbus, variant_lexer.go and variant_parser.go): it refuses a text
    /// of the grammar, or accepts one that D-Bus cannot send. Everything else that it accepts is in
    /// `a_text_is_parsed_to_a_value`.
    #[test]
    fn runcs_parser_differs_here_and_nowhere_else() {
        let ours = |text: &str| parse(text).map(|value| format!("{value:?}"));
        // runc refuses these: it knows only `true`, no sign before an unsigned number, no hexadecimal number, no tuple.
        let refused_by_runc = [
            ("false", "Bool(false)"),
            ("double 2", "Double(2.0)"),
            ("uint64 0x10", "Uint64(16)"),
            ("0x1e", "Int32(30)"),
            ("1E3", "Double(1000.0)"),
            (".5", "Double(0.5)"),
            ("uint64 +5", "Uint64(5)"),
            ("[byte 0x01]", "Bytes([1])"),
            ("(1,)", "Tuple([Int32(1)])"),
            (r"b'\0'", "Bytes([0, 0])"),
        ];
        for (text, said) in refused_by_runc {
            assert_eq!(ours(text).as_deref(), Some(said), "{text}");
        }
        // runc ignores text after a value, and sends text that ends the connection.
        for text in ["1 2", "true false", "@ai [1] x", r"'\ud800'", r"'\u0000'"] {
            assert_eq!(ours(text), None, "{text}");
        }
        // After a sign, runc reads octal digits as decimal ones.
        assert_eq!((ours("-010").as_deref(), ours("+010").as_deref()), (Some("Int32(-8)"), Some("Int32(8)")));
        // The same in both.
        for (text, said) in [
            ("@b true", "Bool(true)"),
            ("1.", "Double(1.0)"),
            ("010.5", "Double(10.5)"),
            ("@v <1>", "Inner(Int32(1))"),
            ("[<'a'>, <@as ['b']>]", r#"List("v", [Inner(Text("a")), Inner(Texts(["b"]))])"#),
            ("[b'x', b'y']", r#"List("ay", [Bytes([120, 0]), Bytes([121, 0])])"#),
            ("{uint32 1: 'a'}", r#"Dict("a{us}", [(Uint32(1), Text("a"))])"#),
            ("{'a': <1>}", r#"Dict("a{sv}", [(Text("a"), Inner(Int32(1)))])"#),
            ("[{'a': 1}, {}]", r#"List("a{si}", [Dict("a{si}", [(Text("a"), Int32(1))]), Dict("a{si}", [])])"#),
        ] {
            assert_eq!(ours(text).as_deref(), Some(said), "{text}");
        }
    }

    #[test]
    fn a_type_may_be_as_deep_and_as_long_as_d_bus_has_it() {
        let deep = format!("{}1{}", "[".repeat(31), "]".repeat(31));
        let types = [format!("@{}i []", "a".repeat(32)), format!("@a({}) []", "i".repeat(252))];
        for text in types.iter().chain([&deep]) {
            assert!(parse(text).is_some(), "{text}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of texts")]
    fn what_is_not_a_value_is_refused() {
        // The long texts take too long under Miri.
        let (depth, length) = if cfg!(miri) { (40, 260) } else { (100_000, 1 << 20) };
        let deep = ["[", "(", "<", "{", "{1:", "@i ", "boolean "].map(|open| open.repeat(depth));
        let types = [
            format!("@{}i []", "a".repeat(length)),
            format!("@{}i []", "a".repeat(33)),
            format!("@a{}i{} []", "(".repeat(33), ")".repeat(33)),
            format!("@a({}) []", "i".repeat(254)),
            format!("({})", ["1"; 254].join(", ")),
        ];
        let bad = [
            "@é 1",
            "@aé []",
            "@a{éi} {}",
            "@(é) (1,)",
            "@a{vs} {}",
            "@a{s} {}",
            "@a{ss {}",
            "@a() []",
            "@a(s []",
            "@a{sss} {}",
            "@h 1",
            "",
            "plain",
            "['a'",
            "['a',]",
            "[,]",
            "uint32 -1",
            "byte 256",
            "08",
            "0x",
            "1 2",
            "'a",
            r"'\u12'",
            r"'\ud800'",
            r"'\0\u0000'",
            "[1, 'a']",
            "[]",
            "{}",
            "()",
            "@as",
            "@as ['a', 1]",
            "@s 1",
            "@x uint64 1",
            "@z 1",
            "@aa []",
            "{'a' 1}",
            "{'a': }",
            "<1",
            "(1",
            "(,)",
            "@(ss) ('a',)",
            "@(s ('a',)",
            "@a{s} {'a': 1}",
            "1e",
            "nan",
            "--1",
            "0x-1",
            r"b'\x4'",
            r"b'\777'",
            "b'",
            "@",
            "true false",
            "@ai [1] x",
            "handle 1",
            "uint64 99999999999999999999",
            "maybe 1",
        ];
        for text in bad.into_iter().chain(deep.iter().chain(&types).map(String::as_str)) {
            assert!(parse(text).is_none(), "{:.40}: {:?}", text, parse(text));
        }
    }
}
