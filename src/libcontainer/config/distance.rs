//! How near two words are.

/// The number of changes that turn one word into the other. A change replaces, inserts or removes a letter, or exchanges two
/// neighbours (Damerau and Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

/// True if at most one such change turns one word into the other. This is much faster than `distance`: a document may have very many
/// unknown names, and each is compared with all names of the specification.
pub fn is_near(a: &str, b: &str) -> bool {
    let same: usize = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let (a, b) = (&a[same..], &b[same..]);
    let exchanged = || {
        let (mut a, mut b) = (a.chars(), b.chars());
        let (first, second) = (a.next(), a.next());
        second.is_some() && (b.next(), b.next()) == (second, first) && a.as_str() == b.as_str()
    };
    let first = |text: &str| text.chars().next().map(char::len_utf8);
    match (first(a), first(b)) {
        (None, None) => true,
        (Some(x), None) => a.len() == x,
        (None, Some(y)) => b.len() == y,
        (Some(x), Some(y)) => a[x..] == b[y..] || a[x..] == *b || *a == b[y..] || exchanged(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_changes() {
        assert_eq!(
            (distance("ab", "ba"), distance("abc", "abc"), distance("", "ab"), distance("abcd", "dcba")),
            (1, 0, 2, 3)
        );
    }

    proptest::proptest! {
        #[test]
        fn near_words_have_a_distance_of_one_at_most(a in "[abä]{0,5}", b in "[abä]{0,5}") {
            assert_eq!(is_near(&a, &b), distance(&a, &b) <= 1, "{a} {b}");
        }
    }
}
