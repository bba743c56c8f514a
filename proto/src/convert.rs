//! Messages to domain types and back: a file for each description in `proto/fedmerge/v1`, one for invitations, and one for the gate before
//! publishing.
//!
//! A conversion from the wire checks everything and names the field that is wrong; the domain types
//! it makes are valid. Nothing is filled in that was not sent.

pub mod admin;
pub mod enrolment;
pub mod evaluation;
pub mod invitation;
mod noise;
pub mod round;
pub mod transfer;

/// A message that breaks its description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {problem}")]
pub struct InvalidMessage {
    /// Path of the field, for example `header.payload.value`.
    pub field: String,
    /// What is wrong with it, to be read after its name.
    pub problem: String,
}

impl InvalidMessage {
    /// Says what is wrong with a field.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same problem seen from the message that holds this one in `field`.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        self.field = format!("{field}.{}", self.field);
        self
    }
}

/// The value of a field that must be there.
///
/// # Errors
/// When it is absent.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, InvalidMessage> {
    value.ok_or_else(|| InvalidMessage::new(field, "is missing"))
}

/// The converted message of a field that must be there.
///
/// # Errors
/// When it is absent or invalid; the error names the whole path.
pub fn nested<W, T>(field: &str, value: Option<W>) -> Result<T, InvalidMessage>
where
    T: TryFrom<W, Error = InvalidMessage>,
{
    T::try_from(required(field, value)?).map_err(|invalid| invalid.within(field))
}

/// The value of a text field that has a grammar.
///
/// # Errors
/// When the text breaks the grammar.
pub fn parsed<T>(field: &str, text: &str) -> Result<T, InvalidMessage>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|problem| InvalidMessage::new(field, format!("is invalid: {problem}")))
}

/// For tests: a field, and a way to spoil it in a valid message.
#[cfg(test)]
type Spoiler<M> = (&'static str, fn(&mut M));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_problem_is_told_with_its_whole_path() {
        let invalid = InvalidMessage::new("value", "has 3 bytes, expected 32")
            .within("payload")
            .within("header");
        assert_eq!(
            invalid.to_string(),
            "field `header.payload.value` has 3 bytes, expected 32"
        );
    }

    #[test]
    fn text_is_parsed_by_its_grammar() {
        assert_eq!(parsed::<u8>("uses", "3"), Ok(3));
        assert!(parsed::<u8>("uses", "x").is_err_and(|invalid| invalid.field == "uses"));
    }
}
