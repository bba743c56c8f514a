//! The plans in the ledger: what `federation.toml` said, and from which round on.
//!
//! A plan that was changed while the server was down holds from the next round on; the round that is open keeps its own. A plan
//! that no round was held by yet is replaced by the next.

use fedmerge_common::ids::RoundNumber;
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::row::{self, DecodeRowError, damaged, integer};
use crate::store::ledger::{Ledger, LedgerError};

/// A plan and the first round that is held by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// The first round that is held by it.
    pub first_round: RoundNumber,
    /// What its file says.
    pub text: String,
}

fn decode(row: &SqliteRow) -> Result<PlanRow, DecodeRowError> {
    Ok(PlanRow {
        first_round: RoundNumber::new(row::number(row, "first_round")?),
        text: row::text(row, "plan")?,
    })
}

impl Ledger {
    /// The plan that `round` is held by, or would be; nothing where the ledger was made before it kept plans.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn plan_of(&self, round: RoundNumber) -> Result<Option<PlanRow>, LedgerError> {
        let row = sqlx::query(
            "SELECT * FROM plans WHERE first_round <= ?1 ORDER BY first_round DESC LIMIT 1",
        )
        .bind(i64::try_from(round.get()).unwrap_or(i64::MAX))
        .fetch_optional(&self.readers)
        .await?;
        let plan = row.map(|row| decode(&row)).transpose();
        plan.map_err(damaged("plans"))
    }

    /// Keeps a plan, in the place of one that was to begin with the same round.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn keep_plan(&self, plan: &PlanRow) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        sqlx::query("INSERT OR REPLACE INTO plans (first_round, plan) VALUES (?1, ?2)")
            .bind(integer("round", plan.first_round.get())?)
            .bind(&plan.text)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
