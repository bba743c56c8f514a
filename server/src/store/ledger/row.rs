//! Columns to values and back. A column that does not hold what this program writes is an error that names it.

use std::error::Error;
use std::str::FromStr;

use fedmerge_common::units::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::error::LedgerError;

/// A column that does not hold what this program writes.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` cannot be read")]
pub struct DecodeRowError {
    column: &'static str,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// Makes an error of a row of `table`.
pub(super) fn damaged(table: &'static str) -> impl Fn(DecodeRowError) -> LedgerError {
    move |source| LedgerError::Damaged { table, source }
}

pub(super) fn wrong<E: Into<Box<dyn Error + Send + Sync>>>(
    column: &'static str,
) -> impl Fn(E) -> DecodeRowError {
    move |source| DecodeRowError {
        column,
        source: source.into(),
    }
}

/// A whole number from 0 up.
pub(super) fn number<N: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<N, DecodeRowError>
where
    N::Error: Error + Send + Sync + 'static,
{
    let number: i64 = row.try_get(column).map_err(wrong(column))?;
    N::try_from(number).map_err(wrong(column))
}

/// A whole number from 0 up that may be absent.
pub(super) fn optional_number(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<u64>, DecodeRowError> {
    let number: Option<i64> = row.try_get(column).map_err(wrong(column))?;
    number.map(u64::try_from).transpose().map_err(wrong(column))
}

pub(super) fn timestamp(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Timestamp, DecodeRowError> {
    number(row, column).map(Timestamp::new)
}

/// A value that is written as people see it: a name, a digest.
pub(super) fn text<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, DecodeRowError>
where
    T::Err: Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column).map_err(wrong(column))?;
    text.parse().map_err(wrong(column))
}

/// A value like [`text`] that may be absent.
pub(super) fn optional_text<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, DecodeRowError>
where
    T::Err: Error + Send + Sync + 'static,
{
    let text: Option<&str> = row.try_get(column).map_err(wrong(column))?;
    text.map(T::from_str).transpose().map_err(wrong(column))
}

pub(super) fn json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, DecodeRowError> {
    let json: &str = row.try_get(column).map_err(wrong(column))?;
    serde_json::from_str(json).map_err(wrong(column))
}

/// A value like [`json`] that may be absent.
pub(super) fn optional_json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, DecodeRowError> {
    let json: Option<&str> = row.try_get(column).map_err(wrong(column))?;
    let value = json.map(serde_json::from_str).transpose();
    value.map_err(wrong(column))
}

/// A hash.
pub(super) fn bytes(row: &SqliteRow, column: &'static str) -> Result<[u8; 32], DecodeRowError> {
    let bytes: &[u8] = row.try_get(column).map_err(wrong(column))?;
    bytes.try_into().map_err(wrong(column))
}

/// A hash that may be absent.
pub(super) fn optional_bytes(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<[u8; 32]>, DecodeRowError> {
    let bytes: Option<&[u8]> = row.try_get(column).map_err(wrong(column))?;
    bytes
        .map(TryInto::try_into)
        .transpose()
        .map_err(wrong(column))
}

pub(super) fn flag(row: &SqliteRow, column: &'static str) -> Result<bool, DecodeRowError> {
    row.try_get(column).map_err(wrong(column))
}

/// The number as SQLite holds it.
pub(super) fn integer(what: &'static str, number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|_| LedgerError::TooLarge { what, number })
}

/// The moment as SQLite holds it.
pub(super) fn moment(what: &'static str, moment: Timestamp) -> Result<i64, LedgerError> {
    integer(what, moment.get())
}

/// The value as JSON text.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("our types are JSON: their keys are text or numbers")
}
