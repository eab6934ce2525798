//! Text in messages.

/// Most characters of a name or a value in a message.
const LONGEST: usize = 60;

/// Returns a name or a value as a message shows it: cut, with `…` at its end, if it is longer than 60 characters.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

/// Returns the sizes of a shape as a message shows it, cut as [`cut`] does.
pub(crate) fn sizes(shape: &[usize]) -> String {
    cut(&format!("{shape:?}"))
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn only_long_text_is_cut() {
        let long = "ä".repeat(60);
        assert_eq!((cut(""), cut(&long)), (String::new(), long.clone()));
        assert_eq!(cut(&format!("{long}b")), format!("{}…", "ä".repeat(59)));
    }
}
