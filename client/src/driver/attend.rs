//! Holds the client's place: the stream of notices, opened again whenever it breaks.

use fedmerge_common::units::Millis;
use fedmerge_proto::limits::INSTANCE_BYTES;
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

use super::Report;
use crate::agent::Event;
use crate::link::trouble::Trouble;
use crate::link::{Link, Retry};
use crate::task::Notice;
use crate::trust::Trust;

/// Attends until it is aborted or the trouble is final, which is its last report.
pub(super) async fn attend(
    (link, trust): (&Link, &Trust),
    identity_wait: Millis,
    reports: &mpsc::Sender<Report>,
) {
    let instance: [u8; INSTANCE_BYTES] = rand::random();
    let mut attendance = Attendance {
        link,
        trust,
        reports,
        retry: link.retry(),
        identity_wait,
        in_use_since: None,
    };
    loop {
        let trouble = match attendance.stream(instance).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        };
        if attendance.send(Event::LinkLost).await.is_err() {
            return;
        }
        if let Err(trouble) = attendance.wait(trouble).await {
            let failure = trouble.into_failure(link.address(), link.clock());
            // Without a listener there is nobody left to tell.
            let _ = reports.send(Report::Fatal(Box::new(failure))).await;
            return;
        }
    }
}

struct Attendance<'a> {
    link: &'a Link,
    trust: &'a Trust,
    reports: &'a mpsc::Sender<Report>,
    retry: Retry<'a>,
    identity_wait: Millis,
    in_use_since: Option<Instant>,
}

/// The driver is gone.
struct NobodyListens;

impl Attendance<'_> {
    /// Passes notices on until the stream breaks; ends well only when nobody listens.
    async fn stream(&mut self, instance: [u8; INSTANCE_BYTES]) -> Result<(), Trouble> {
        let connection = self.link.connection().await?;
        let request = v1::AttendRequest {
            instance: instance.to_vec().into(),
        };
        let opened = RoundClient::new(connection.channel.clone())
            .attend(request)
            .await;
        let passed = match opened {
            Ok(answer) => self.pass_on(answer.into_inner()).await,
            Err(status) => Err(Trouble::from_status(&status)),
        };
        if let Err(trouble) = &passed {
            self.link.note_trouble(&connection, trouble).await;
        }
        passed
    }

    async fn pass_on(&mut self, mut notices: Streaming<v1::Notice>) -> Result<(), Trouble> {
        loop {
            let notice = notices.message().await;
            let notice = notice.map_err(|status| Trouble::from_status(&status))?;
            let notice =
                notice.ok_or_else(|| Trouble::Cut("the server ended the stream".to_owned()))?;
            let notice = Notice::read(notice, |claims, base| {
                self.trust.believe(claims, base, self.link.clock().now())
            })
            .map_err(|error| Trouble::Nonsense(error.to_string()))?;
            self.retry.progressed();
            self.in_use_since = None;
            if self.send(Event::NoticeReceived(notice)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits for what may pass; an identity in use passes when the other process leaves, for a while.
    async fn wait(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let is_in_use = matches!(
            &trouble,
            Trouble::Refused(refusal) if refusal.reason == RefusalReason::IdentityInUse
        );
        if !is_in_use {
            return self.retry.wait(trouble).await;
        }
        let since = *self.in_use_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.identity_wait.to_duration() {
            return Err(trouble);
        }
        self.retry.wait_for(&trouble).await;
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), NobodyListens> {
        self.reports
            .send(Report::Event(event))
            .await
            .map_err(|_| NobodyListens)
    }
}
