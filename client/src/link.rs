//! The link to the server: one connection that every part of the client shares, and the one retry policy.
//!
//! A broken connection is thrown away and made anew by whoever needs it next; everyone else waits for that attempt.
//! Waits grow from 0.2 s to 15 s with jitter, unless the server says when to come back, and every wait says what it waits for: at once when the reason is new,
//! then each half minute. What cannot get better by waiting is never waited for.

pub mod address;
mod announcer;
mod connect;
pub mod trouble;
mod watched;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fedmerge_common::clock::Clock;
use fedmerge_common::output::Output;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use address::ServerAddress;
use announcer::Announcer;
pub use connect::KEEP_ALIVE_VARIABLE;
use trouble::Trouble;
use watched::Reason;

/// Longest wait for the answer to one small call.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// A server that asks for more patience is asked again before.
const LONGEST_ASKED_DELAY: Duration = Duration::from_secs(60);
/// Clocks that differ by less are not worth a remark.
const REMARKABLE_SKEW: Millis = Millis::from_secs(300);

/// How a fresh connection proves that it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// By a `Hello`: with TLS 1.3 a server's refusal of a certificate shows in the first call only.
    Hello,
    /// Not at all: before enrolment there is nothing to prove.
    None,
}

/// The shared connection to a server.
pub struct Link {
    address: ServerAddress,
    credentials: Mutex<Credentials>,
    greeting: Greeting,
    clock: Clock,
    output: Output,
    connection: tokio::sync::Mutex<Option<Connection>>,
    announcer: Mutex<Announcer>,
}

/// With what the client shows who it is.
#[derive(Clone, Debug)]
struct Credentials {
    tls: Arc<rustls::ClientConfig>,
    /// When they end, where they do.
    until: Option<Timestamp>,
}

/// An open connection; its number tells it from the ones before.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where calls go.
    pub channel: Channel,
    number: u64,
    reason: Reason,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link that connects when it is first needed.
    #[must_use]
    pub fn new(
        address: ServerAddress,
        tls: rustls::ClientConfig,
        greeting: Greeting,
        output: Output,
    ) -> Self {
        Self {
            announcer: Mutex::new(Announcer::new(&address)),
            address,
            credentials: Mutex::new(Credentials {
                tls: Arc::new(tls),
                until: None,
            }),
            greeting,
            clock: Clock::system(),
            output,
            connection: tokio::sync::Mutex::new(None),
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The client's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The open connection, or a new one: one attempt, no wait.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connection(&self) -> Result<Connection, Trouble> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref() {
            return Ok(connection.clone());
        }
        let credentials = self.credentials().clone();
        if let Some(until) = credentials.until.filter(|until| *until <= self.clock.now()) {
            return Err(Trouble::Stale(until));
        }
        let reason = Reason::default();
        let channel = connect::open(&self.address, &credentials.tls, &reason).await?;
        if self.greeting == Greeting::Hello {
            let greeted = self.greet(channel.clone()).await;
            greeted.map_err(|trouble| trouble.because(&reason))?;
        }
        let number = self.announcer().connected(|line| self.output.note(line));
        let connection = Connection {
            channel,
            number,
            reason,
        };
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// From now on the client shows other credentials, which end at `until`, where they do. Calls that are under way go on as they are.
    pub async fn rekey(&self, tls: rustls::ClientConfig, until: Option<Timestamp>) {
        let mut slot = self.connection.lock().await;
        *self.credentials() = Credentials {
            tls: Arc::new(tls),
            until,
        };
        *slot = None;
    }

    /// Says when the credentials end that the client shows: after that it waits for others.
    pub fn ends_at(&self, until: Timestamp) {
        self.credentials().until = Some(until);
    }

    fn credentials(&self) -> std::sync::MutexGuard<'_, Credentials> {
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call, without retry.
    ///
    /// # Errors
    /// What went wrong, and whether it may pass.
    pub async fn attempt<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.attempt_within(ANSWER_LIMIT, call).await
    }

    /// Makes one call that may take long, without retry.
    ///
    /// # Errors
    /// What went wrong, and whether it may pass.
    pub async fn attempt_within<T, F>(
        &self,
        limit: Duration,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let connection = self.connection().await?;
        let answer = timeout(limit, call(connection.channel.clone())).await;
        let trouble = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Trouble::from_status(&status).because(&connection.reason),
            Err(_) => Trouble::Cut(format!("no answer within {}", Millis::from(limit))),
        };
        self.note_trouble(&connection, &trouble).await;
        Err(trouble)
    }

    /// Makes one call until it is answered.
    ///
    /// # Errors
    /// What waiting does not mend.
    pub async fn call<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut retry = self.retry();
        loop {
            match self.attempt(&call).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => retry.wait(trouble).await?,
            }
        }
    }

    /// Throws a connection away whose calls break off, unless that has been done.
    pub async fn note_trouble(&self, connection: &Connection, trouble: &Trouble) {
        if matches!(trouble, Trouble::Cut(_) | Trouble::Untrusted(_)) {
            let mut slot = self.connection.lock().await;
            if slot
                .as_ref()
                .is_some_and(|open| open.number == connection.number)
            {
                *slot = None;
            }
        }
    }

    /// A fresh series of waits without end.
    #[must_use]
    pub fn retry(&self) -> Retry<'_> {
        Retry {
            link: self,
            delays: delays(),
            end: None,
        }
    }

    /// A fresh series of waits that ends after a while.
    #[must_use]
    pub fn retry_for(&self, limit: Millis) -> Retry<'_> {
        Retry {
            end: Instant::now().checked_add(limit.to_duration()),
            ..self.retry()
        }
    }

    /// Greets the server: what it says of itself, without retry.
    ///
    /// # Errors
    /// What went wrong, and whether it may pass.
    pub async fn hello(&self) -> Result<v1::HelloResponse, Trouble> {
        let request = self.greeting_words();
        let call = |channel| async move { RoundClient::new(channel).hello(request).await };
        self.attempt(call).await
    }

    fn greeting_words(&self) -> v1::HelloRequest {
        v1::HelloRequest {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            client_time_ms: self.clock.now().get(),
        }
    }

    async fn greet(&self, channel: Channel) -> Result<(), Trouble> {
        let mut client = RoundClient::new(channel);
        let greeted = client.hello(self.greeting_words());
        let answer = match timeout(ANSWER_LIMIT, greeted).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(Trouble::from_status(&status)),
            Err(_) => return Err(Trouble::Unreachable("no answer to the greeting".to_owned())),
        };
        let server_time = Timestamp::new(answer.server_time_ms);
        let skew = server_time.distance(self.clock.now());
        if skew > REMARKABLE_SKEW {
            self.output.note(format_args!(
                "this machine's clock and the server's differ by {skew}; check both"
            ));
        }
        tracing::info!(federation = %answer.federation, client = %answer.client_id, "greeted");
        Ok(())
    }

    fn announcer(&self) -> std::sync::MutexGuard<'_, Announcer> {
        self.announcer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A series of growing waits.
#[derive(Debug)]
pub struct Retry<'a> {
    link: &'a Link,
    delays: ExponentialBackoff,
    end: Option<Instant>,
}

impl Retry<'_> {
    /// Says what is waited for and waits, when waiting can help.
    ///
    /// # Errors
    /// The trouble itself, when it does not pass or the series is at its end.
    pub async fn wait(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if !trouble.may_pass() {
            return Err(trouble);
        }
        let delay = self.delay(&trouble);
        if self.end.is_some_and(|end| Instant::now() + delay > end) {
            return Err(trouble);
        }
        self.pause(&trouble, delay).await;
        Ok(())
    }

    /// Says what is waited for and waits, whatever the trouble: the caller knows that it may pass.
    pub async fn wait_for(&mut self, trouble: &Trouble) {
        let delay = self.delay(trouble);
        self.pause(trouble, delay).await;
    }

    /// As long as the server asked for, and up to half as long again, so that those who were sent away together do not come back
    /// together; else the next of the growing waits.
    fn delay(&mut self, trouble: &Trouble) -> Duration {
        if let Some(asked) = trouble.retry_after() {
            let asked = asked.to_duration().min(LONGEST_ASKED_DELAY);
            return asked.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        }
        self.delays
            .next()
            .unwrap_or(LONGEST_DELAY)
            .min(LONGEST_DELAY)
    }

    async fn pause(&self, trouble: &Trouble, delay: Duration) {
        tracing::info!(reason = %trouble, "trying again");
        self.link
            .announcer()
            .waiting(trouble, delay, |line| self.link.output.note(line));
        tokio::time::sleep(delay).await;
    }

    /// Starts the waits anew: something went well since the last.
    pub fn progressed(&mut self) {
        self.delays = delays();
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY / 2)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests;
