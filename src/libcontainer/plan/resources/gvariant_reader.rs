//! Reads GVariant's text format to a tree, before the types are known.

/// The deepest nesting of values, and of arrays and of structs in a type (D-Bus specification, "Valid Signatures").
pub(super) const DEEPEST: usize = 32;

/// The words for types. A type string (`@as`) can express any type.
const TYPES: [(&str, &str); 13] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("handle", "h"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// A parsed text, before its type is known.
pub(super) enum Parsed {
    Bool(bool),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Parsed>),
    Dict(Vec<(Parsed, Parsed)>),
    Tuple(Vec<Parsed>),
    Variant(Box<Parsed>),
    /// With its type before it.
    Typed(String, Box<Parsed>),
}

/// Reads the whole text.
pub(super) fn read(text: &str) -> Option<Parsed> {
    let mut reader = GvariantReader { rest: text };
    let node = reader.node(0)?;
    (reader.next_is("") && reader.rest.is_empty()).then_some(node)
}

struct GvariantReader<'t> {
    rest: &'t str,
}

impl GvariantReader<'_> {
    /// Whether `mark` comes next. It is consumed then.
    fn next_is(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn node(&mut self, depth: usize) -> Option<Parsed> {
        let deeper = (depth < DEEPEST).then_some(depth + 1)?;
        if self.next_is("[") {
            return self.list("]", |reader| reader.node(deeper)).map(Parsed::Array);
        }
        if self.next_is("(") {
            return self.list(")", |reader| reader.node(deeper)).map(Parsed::Tuple);
        }
        if self.next_is("{") {
            let entry = |reader: &mut Self| {
                let key = reader.node(deeper)?;
                reader.next_is(":").then_some(())?;
                Some((key, reader.node(deeper)?))
            };
            return self.list("}", entry).map(Parsed::Dict);
        }
        if self.next_is("<") {
            let inner = self.node(deeper)?;
            return self.next_is(">").then(|| Parsed::Variant(Box::new(inner)));
        }
        if ["b'", "b\""].iter().any(|begin| self.rest.starts_with(begin)) {
            self.rest = &self.rest[1..];
            return self.quoted()?.bytes().map(Parsed::Bytes);
        }
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted()?.text().map(Parsed::Text);
        }
        if self.next_is("@") {
            let signature = self.word(|c| !c.is_whitespace())?.to_owned();
            return Some(Parsed::Typed(signature, Box::new(self.node(deeper)?)));
        }
        let word = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))?;
        match word {
            "true" => return Some(Parsed::Bool(true)),
            "false" => return Some(Parsed::Bool(false)),
            _ => {}
        }
        match TYPES.iter().find(|(name, _)| *name == word) {
            Some((_, signature)) => Some(Parsed::Typed((*signature).to_owned(), Box::new(self.node(deeper)?))),
            None => Some(Parsed::Number(word.to_owned())),
        }
    }

    /// The elements between commas, up to `end`. A tuple of one element has a comma before the end.
    fn list<T>(&mut self, end: &str, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        while !self.next_is(end) {
            all.push(one(self)?);
            let more = self.next_is(",");
            if more && end == ")" && all.len() == 1 {
                continue;
            }
            match (more, self.next_is(end)) {
                (false, true) => return Some(all),
                (true, false) => {}
                _ => return None,
            }
        }
        // An empty tuple.
        (all.is_empty() || end == ")").then_some(all)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Option<&str> {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The text between two quotes of one kind. A backslash escapes the next character.
    fn quoted(&mut self) -> Option<Quoted<'_>> {
        let quote = self.rest.chars().next()?;
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(n, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends.then_some(n)
        })?;
        let (inner, rest) = (&self.rest[1..end], &self.rest[end + 1..]);
        self.rest = rest;
        Some(Quoted(inner))
    }
}

struct Quoted<'t>(&'t str);

impl Quoted<'_> {
    fn text(&self) -> Option<String> {
        let mut chars = self.0.chars();
        let mut text = String::new();
        while let Some(c) = chars.next() {
            if c != '\\' {
                text.push(c);
                continue;
            }
            let digits = match chars.next()? {
                'u' => 4,
                'U' => 8,
                // The line continues.
                '\n' => continue,
                other => {
                    text.push(control(other).map_or(other, char::from));
                    continue;
                }
            };
            let code = chars.as_str().get(..digits)?;
            text.push(char::from_u32(hex(code)?)?);
            chars = chars.as_str()[digits..].chars();
        }
        // No string of D-Bus contains a NUL.
        (!text.contains('\0')).then_some(text)
    }

    /// A byte string ends with a NUL.
    fn bytes(&self) -> Option<Vec<u8>> {
        let mut rest = self.0.as_bytes();
        let mut bytes = Vec::new();
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            if *first != b'\\' {
                bytes.push(*first);
                continue;
            }
            let (escaped, more) = rest.split_first()?;
            rest = more;
            match escaped {
                b'x' => {
                    bytes.push(u8::try_from(hex(std::str::from_utf8(rest.get(..2)?).ok()?)?).ok()?);
                    rest = &rest[2..];
                }
                b'0'..=b'7' => {
                    let octal = |byte: &&u8| (b'0'..=b'7').contains(*byte);
                    let more = rest.iter().take(2).take_while(octal).count();
                    let digits = std::iter::once(escaped).chain(&rest[..more]);
                    let code = digits.fold(0u16, |code, digit| code * 8 + u16::from(digit - b'0'));
                    bytes.push(u8::try_from(code).ok()?);
                    rest = &rest[more..];
                }
                other => bytes.push(control(char::from(*other)).unwrap_or(*other)),
            }
        }
        bytes.push(0);
        Some(bytes)
    }
}

fn control(letter: char) -> Option<u8> {
    let all = [('a', 7), ('b', 8), ('f', 12), ('n', b'\n'), ('r', b'\r'), ('t', b'\t'), ('v', 11)];
    all.iter().find(|(name, _)| *name == letter).map(|(_, byte)| *byte)
}

fn hex(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}
