//! What becomes of an enrolled client: a person approves or evicts it, and its keys follow one another.
//!
//! Each certificate is for a key of its own. The first use of a newer key retires the one before it, so that a copy of a client's
//! directory is found out: whoever comes later with a retired key is another machine, and the client is locked until a person has
//! looked. An evicted client's keys are never taken again; its name is free, unless its certificates are a site's own authority's.

use fedmerge_common::hex;
use fedmerge_common::identity::Issuer;
use fedmerge_common::ids::ClientId;
use fedmerge_common::units::{Millis, Timestamp};
use sqlx::{Row, SqliteConnection};

use crate::audit::AuditEvent;
use crate::store::ledger::audit;
use crate::store::ledger::clients::{self, ClientState, EnrolledClient};
use crate::store::ledger::member_refusal::MemberRefusal;
use crate::store::ledger::row::{self, damaged, moment, wrong};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "retired_keys";

/// A key that is shown under a client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownKey {
    /// Who certifies that the key is the client's.
    pub issuer: Issuer,
    /// SHA-256 of the public key.
    pub key: [u8; 32],
    /// When the connection began on which it is shown: one that began before its key was retired may end in peace.
    pub connected: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// The wish of a client for a certificate of its next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The client.
    pub client: ClientId,
    /// SHA-256 of the public key that signed the wish.
    pub key: [u8; 32],
    /// That of the next one.
    pub next_key: [u8; 32],
    /// The time.
    pub now: Timestamp,
    /// When the new certificate will end.
    pub until: Timestamp,
    /// For how long after the end of the old one it may be renewed.
    pub absence: Millis,
    /// How long the client waits after it has used a new key before it gets the next: each leaves lines in the ledger for ever.
    pub spacing: Millis,
}

/// What became of the wish to approve a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// It takes part from now on; it was waiting, locked or in quarantine.
    Approved,
    /// It took part before.
    AlreadyAdmitted,
    /// There is no such client.
    Unknown,
}

/// A key that is not taken any more.
struct RetiredKey {
    client: ClientId,
    since: Timestamp,
    /// Why its client was evicted, where it was.
    evicted: Option<String>,
}

async fn retired(
    connection: &mut SqliteConnection,
    key: &[u8; 32],
) -> Result<Option<RetiredKey>, LedgerError> {
    let row = sqlx::query("SELECT client, since, evicted FROM retired_keys WHERE key = ?1")
        .bind(key.as_slice())
        .fetch_optional(connection)
        .await?;
    let read = |row| {
        Ok(RetiredKey {
            client: row::text(&row, "client")?,
            since: row::timestamp(&row, "since")?,
            evicted: row.try_get("evicted").map_err(wrong("evicted"))?,
        })
    };
    row.map(read).transpose().map_err(damaged(TABLE))
}

async fn retire(
    connection: &mut SqliteConnection,
    client: &ClientId,
    key: &[u8; 32],
    now: Timestamp,
    evicted: Option<&str>,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT OR REPLACE INTO retired_keys (key, client, since, evicted) VALUES (?1, ?2, ?3, ?4)",
    )
    .bind(key.as_slice())
    .bind(client.as_str())
    .bind(moment("time", now)?)
    .bind(evicted)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a key may enrol: one that was retired never comes back.
pub(super) async fn refuse_retired(
    connection: &mut SqliteConnection,
    client: &ClientId,
    key: &[u8; 32],
) -> Result<Option<MemberRefusal>, LedgerError> {
    let client = client.clone();
    Ok(retired(connection, key)
        .await?
        .map(|key| match key.evicted {
            Some(reason) => MemberRefusal::Evicted { client, reason },
            None => MemberRefusal::UsedKey,
        }))
}

impl EnrolledClient {
    pub(super) fn admitted(&self) -> Result<(), MemberRefusal> {
        let client = self.id.clone();
        match self.state {
            ClientState::Admitted => Ok(()),
            ClientState::Waiting => Err(MemberRefusal::Waiting { client }),
            ClientState::Locked => Err(MemberRefusal::Locked { client }),
            ClientState::Quarantined => Err(MemberRefusal::Quarantined {
                client,
                rejections: self.rejections,
            }),
            ClientState::Evicted => Err(MemberRefusal::Evicted {
                client,
                reason: "its name is shut out".to_owned(),
            }),
        }
    }
}

impl Ledger {
    /// Whether a client takes part under the key that it shows. The first use of a newer key retires the one before it; the use of
    /// a retired one locks the client.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn recognise(
        &self,
        client: &ClientId,
        shown: ShownKey,
    ) -> Result<Result<(), MemberRefusal>, LedgerError> {
        let known = self.client(client).await?;
        if let Some(known) = &known
            && known.key == shown.key
            && known.token.is_some()
        {
            return Ok(known.admitted());
        }
        let mut transaction = self.begin().await?;
        let standing = stand(&mut transaction, client, shown).await?;
        transaction.commit().await?;
        Ok(standing.map(drop))
    }

    /// Takes note of the key of a client's next certificate. The same wish again, whose answer was lost, is the same; another one
    /// takes the place of a key that was not used.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn renew(
        &self,
        wish: &Renewal,
    ) -> Result<Result<EnrolledClient, MemberRefusal>, LedgerError> {
        let mut transaction = self.begin().await?;
        let granted = grant(&mut transaction, wish).await?;
        // A refusal may have locked the client, which must stay.
        transaction.commit().await?;
        Ok(granted)
    }

    /// Lets a client take part that waits, is locked, in quarantine, or shut out by name.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn approve(
        &self,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<Approval, LedgerError> {
        let mut transaction = self.begin().await?;
        let Some(known) = clients::find(&mut transaction, client).await? else {
            return Ok(Approval::Unknown);
        };
        match known.state {
            ClientState::Admitted => return Ok(Approval::AlreadyAdmitted),
            ClientState::Evicted => reinstate(&mut transaction, &known.key).await?,
            ClientState::Waiting | ClientState::Locked | ClientState::Quarantined => {}
        }
        let admitted = EnrolledClient {
            state: ClientState::Admitted,
            rejections: 0,
            ..known
        };
        clients::put(&mut transaction, &admitted).await?;
        let client = client.clone();
        audit::append(&mut transaction, now, AuditEvent::ClientApproved { client }).await?;
        transaction.commit().await?;
        Ok(Approval::Approved)
    }

    /// Strikes a client off and never takes its keys again; answers with all of them, or nothing where there is no such client.
    /// One whose certificates are a site's own authority's is shut out by name: that authority would give it others.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn evict(
        &self,
        client: &ClientId,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Vec<[u8; 32]>>, LedgerError> {
        let mut transaction = self.begin().await?;
        let Some(known) = clients::find(&mut transaction, client).await? else {
            return Ok(None);
        };
        for key in [Some(known.key), known.next_key].into_iter().flatten() {
            retire(&mut transaction, client, &key, now, Some(reason)).await?;
        }
        sqlx::query("UPDATE retired_keys SET evicted = ?2 WHERE client = ?1 AND evicted IS NULL")
            .bind(client.as_str())
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
        if known.token.is_some() {
            clients::remove(&mut transaction, client).await?;
        } else {
            let shut_out = EnrolledClient {
                state: ClientState::Evicted,
                ..known
            };
            clients::put(&mut transaction, &shut_out).await?;
        }
        let evicted = AuditEvent::ClientEvicted {
            client: client.clone(),
            reason: reason.to_owned(),
        };
        audit::append(&mut transaction, now, evicted).await?;
        let rows = sqlx::query("SELECT key FROM retired_keys WHERE client = ?1")
            .bind(client.as_str())
            .fetch_all(&mut *transaction)
            .await?;
        let keys: Result<_, _> = rows.iter().map(|row| row::bytes(row, "key")).collect();
        let keys = keys.map_err(damaged(TABLE))?;
        transaction.commit().await?;
        Ok(Some(keys))
    }
}

/// A refusal, with the reason that a person gave for an eviction.
async fn why(
    connection: &mut SqliteConnection,
    refusal: MemberRefusal,
) -> Result<MemberRefusal, LedgerError> {
    let MemberRefusal::Evicted { client, reason } = refusal else {
        return Ok(refusal);
    };
    let row = sqlx::query(
        "SELECT evicted FROM retired_keys WHERE client = ?1 AND evicted IS NOT NULL ORDER BY since DESC LIMIT 1",
    )
    .bind(client.as_str())
    .fetch_optional(connection)
    .await?;
    let told = row.map(|row| row.try_get("evicted").map_err(wrong("evicted")));
    let told = told.transpose().map_err(damaged(TABLE))?;
    let reason = told.unwrap_or(reason);
    Ok(MemberRefusal::Evicted { client, reason })
}

/// Takes a key of an evicted client again.
async fn reinstate(connection: &mut SqliteConnection, key: &[u8; 32]) -> Result<(), LedgerError> {
    sqlx::query("DELETE FROM retired_keys WHERE key = ?1")
        .bind(key.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// The client that shows a key, as it stands after that.
pub(super) async fn stand(
    connection: &mut SqliteConnection,
    client: &ClientId,
    shown: ShownKey,
) -> Result<Result<EnrolledClient, MemberRefusal>, LedgerError> {
    let known = clients::find(connection, client).await?;
    // Under another's name a retired key says nothing: a wish names whom it likes, and must not shut anybody else out.
    let retired = retired(connection, &shown.key).await?;
    let is_foreign = retired.as_ref().is_some_and(|key| key.client != *client);
    let retired = retired.filter(|key| key.client == *client);
    if let Some(reason) = retired.as_ref().and_then(|key| key.evicted.clone()) {
        let client = client.clone();
        return Ok(Err(MemberRefusal::Evicted { client, reason }));
    }
    let Some(known) = known else {
        let client = client.clone();
        return Ok(Err(MemberRefusal::Unknown { client }));
    };
    if let Some(retired) = retired {
        if shown.connected < retired.since {
            return Ok(known.admitted().map(|()| known));
        }
        lock(connection, known, shown).await?;
        let client = client.clone();
        return Ok(Err(MemberRefusal::Locked { client }));
    }
    if let Err(refusal) = known.admitted() {
        return Ok(Err(why(connection, refusal).await?));
    }
    let came_by = match known.token {
        Some(_) => Issuer::Federation,
        None => Issuer::Site,
    };
    if came_by != shown.issuer {
        let client = client.clone();
        return Ok(Err(MemberRefusal::OtherAuthority { client }));
    }
    if known.key == shown.key {
        return Ok(Ok(known));
    }
    let is_next = match shown.issuer {
        Issuer::Federation => known.next_key == Some(shown.key),
        // A site's authority gives new keys as it likes, but none that was another's.
        Issuer::Site => !is_foreign,
    };
    if !is_next {
        let client = client.clone();
        return Ok(Err(MemberRefusal::OtherKey { client }));
    }
    retire(connection, client, &known.key, shown.now, None).await?;
    let renewed = EnrolledClient {
        key: shown.key,
        next_key: None,
        renewals: known.renewals + 1,
        ..known
    };
    clients::put(connection, &renewed).await?;
    let event = AuditEvent::ClientRenewed {
        client: client.clone(),
        key_sha256: hex::encode(&shown.key),
    };
    audit::append(connection, shown.now, event).await?;
    Ok(Ok(renewed))
}

/// Locks a client under whose name a retired key was shown.
async fn lock(
    connection: &mut SqliteConnection,
    known: EnrolledClient,
    shown: ShownKey,
) -> Result<(), LedgerError> {
    if known.state == ClientState::Locked {
        return Ok(());
    }
    let event = AuditEvent::ClientLocked {
        client: known.id.clone(),
        key_sha256: hex::encode(&shown.key),
    };
    let locked = EnrolledClient {
        state: ClientState::Locked,
        ..known
    };
    clients::put(connection, &locked).await?;
    audit::append(connection, shown.now, event).await
}

/// When the client last put a new key to use.
pub(super) async fn last_used(
    connection: &mut SqliteConnection,
    client: &ClientId,
) -> Result<Option<Timestamp>, LedgerError> {
    let row = sqlx::query("SELECT max(since) AS since FROM retired_keys WHERE client = ?1")
        .bind(client.as_str())
        .fetch_one(connection)
        .await?;
    let since = row::optional_number(&row, "since").map_err(damaged(TABLE))?;
    Ok(since.map(Timestamp::new))
}

async fn grant(
    connection: &mut SqliteConnection,
    wish: &Renewal,
) -> Result<Result<EnrolledClient, MemberRefusal>, LedgerError> {
    let shown = ShownKey {
        issuer: Issuer::Federation,
        key: wish.key,
        connected: wish.now,
        now: wish.now,
    };
    let known = match stand(connection, &wish.client, shown).await? {
        Ok(known) => known,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some(ended) = known.until
        && ended + wish.absence <= wish.now
    {
        return Ok(Err(MemberRefusal::Absent {
            client: known.id,
            ended,
            absence: wish.absence,
        }));
    }
    if let Some(used) = last_used(connection, &known.id).await?
        && used <= wish.now
        && wish.now < used + wish.spacing
    {
        let wait = used + wish.spacing - wish.now;
        let client = known.id;
        return Ok(Err(MemberRefusal::TooSoon { client, wait }));
    }
    let is_used =
        wish.next_key == known.key || retired(connection, &wish.next_key).await?.is_some();
    if is_used {
        return Ok(Err(MemberRefusal::UsedKey));
    }
    let promised = EnrolledClient {
        next_key: Some(wish.next_key),
        until: known.until.max(Some(wish.until)),
        ..known
    };
    clients::put(connection, &promised).await?;
    Ok(Ok(promised))
}
