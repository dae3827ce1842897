//! Errors as one line.

/// An error with all that caused it.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    with_causes_by(error, ToString::to_string)
}

/// The same, with `words` for what each says by itself.
pub fn with_causes_by(
    error: &(dyn std::error::Error + 'static),
    words: impl Fn(&(dyn std::error::Error + 'static)) -> String,
) -> String {
    let mut text = words(error);
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = words(next);
        // Some errors repeat their cause.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_is_said_once() {
        let error = anyhow!("no space").context("the file cannot be read").context("no start: the file cannot be read");
        assert_eq!(with_causes(error.as_ref()), "no start: the file cannot be read: no space");
    }
}
