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

/// A text that names none of the known things: an activation, or an element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} {text:?}; there are {known}")]
#[non_exhaustive]
pub struct UnknownName {
    /// What was looked for.
    pub what: &'static str,
    /// The text, cut if it is long.
    pub text: String,
    /// The names that there are.
    pub known: &'static str,
}

/// Returns a number as Python prints it: `0.1`, `1.0`, `1e-05`.
pub(crate) fn python_float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && size.is_finite() && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        if let Some((digits, exponent)) = text.split_once('e')
            && let Ok(exponent) = exponent.parse::<i32>()
        {
            return format!("{digits}e{exponent:+03}");
        }
    }
    format!("{number:?}")
}

/// Returns the sizes of a shape as a message shows it, cut as [`cut`] does.
pub(crate) fn sizes(shape: &[usize]) -> String {
    cut(&format!("{shape:?}"))
}

#[cfg(test)]
mod tests {
    use super::{cut, python_float};

    /// By Python 3.11's `repr`.
    #[test]
    fn numbers_are_printed_as_python_does() {
        let numbers = [
            (1e-5, "1e-05"),
            (0.1, "0.1"),
            (1.0, "1.0"),
            (1e-4, "0.0001"),
            (0.0, "0.0"),
            (-2.5e-7, "-2.5e-07"),
        ];
        for (number, text) in
            numbers.into_iter().chain([(1e16, "1e+16"), (1e15, "1000000000000000.0"), (1e-300, "1e-300")])
        {
            assert_eq!(python_float(number), text);
        }
    }

    #[test]
    fn only_long_text_is_cut() {
        let long = "ä".repeat(60);
        assert_eq!((cut(""), cut(&long)), (String::new(), long.clone()));
        assert_eq!(cut(&format!("{long}b")), format!("{}…", "ä".repeat(59)));
    }
}
