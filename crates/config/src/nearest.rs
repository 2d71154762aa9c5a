//! The word that was meant.

/// The candidate that is close enough to `word` to be a slip of the finger.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let slips = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let words = ["replication", "snapshot", "url"];
        assert_eq!(nearest("replicaton", words), Some("replication"));
        assert_eq!(nearest("Snapshot", words), Some("snapshot"));
        assert_eq!(nearest("ulr", words), Some("url"));
        assert_eq!(nearest("batch", words), None);
        assert_eq!(nearest("", words), None);
    }
}
