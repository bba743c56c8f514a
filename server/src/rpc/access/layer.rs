//! The table's enforcement, as a layer around all services.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fedmerge_common::identity::{Identity, Issuer, PeerCertificate};
use fedmerge_common::ids::{ClientId, FederationName};
use fedmerge_proto::status::{Refusal, RefusalReason};
use tokio::time::Instant;
use tonic::Status;
use tower::{Layer, Service};

use crate::listener::{Door, Peer};
use crate::pace::Paces;
use crate::refusals::Refusals;
use crate::rpc::access::{Access, Caller, access_of};

/// Who is enrolled.
pub trait Members: Clone + Send + Sync + 'static {
    /// Whether a client takes part under the certificate that it shows on a connection.
    fn recognise(
        &self,
        client: &ClientId,
        certificate: &PeerCertificate,
        peer: &Peer,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Lets through what the table allows.
#[derive(Debug, Clone)]
pub struct AccessLayer<M> {
    guard: Guard<M>,
    refusals: Refusals,
}

impl<M: Members> AccessLayer<M> {
    /// A layer for one federation's members, each of whom may make so many calls in a second, in the long run, as may an
    /// address from which strangers call.
    #[must_use]
    pub fn new(
        federation: FederationName,
        members: M,
        calls_per_second: u32,
        refusals: Refusals,
    ) -> Self {
        Self {
            refusals,
            guard: Guard {
                federation: Arc::new(federation),
                members,
                paces: Arc::new(Paces::new(calls_per_second)),
                addresses: Arc::new(Paces::new(calls_per_second)),
            },
        }
    }
}

impl<S, M: Members> Layer<S> for AccessLayer<M> {
    type Service = AccessService<S, M>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessService {
            inner,
            guard: self.guard.clone(),
            refusals: self.refusals.clone(),
        }
    }
}

/// Services behind an [`AccessLayer`].
#[derive(Debug, Clone)]
pub struct AccessService<S, M> {
    inner: S,
    guard: Guard<M>,
    refusals: Refusals,
}

impl<S, M, B, R> Service<http::Request<B>> for AccessService<S, M>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    M: Members,
    B: Send + 'static,
    R: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        // The one that was polled ready serves this request; its copy waits for the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let (guard, refusals) = (self.guard.clone(), self.refusals.clone());
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>();
            match guard.caller(request.uri().path(), peer).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    let answer = inner.call(request).await?;
                    let refused = refusals.count_answer(answer.headers());
                    Ok(refused.map_or(answer, |refusal| Status::from(refusal).into_http()))
                }
                Err(refusal) => {
                    refusals.count(refusal.reason);
                    Ok(Status::from(refusal).into_http())
                }
            }
        })
    }
}

#[derive(Debug, Clone)]
struct Guard<M> {
    federation: Arc<FederationName>,
    members: M,
    /// A site's certificate that bears a client's name takes nothing from that client.
    paces: Arc<Paces<(Issuer, ClientId)>>,
    addresses: Arc<Paces<IpAddr>>,
}

impl<M: Members> Guard<M> {
    /// Who calls, when it may.
    async fn caller(&self, path: &str, peer: Option<&Peer>) -> Result<Caller, Refusal> {
        let Some(access) = access_of(path) else {
            return Err(not_permitted("there is no such rpc"));
        };
        if let Some(peer) = peer
            && !access.is_open_at(peer.door)
        {
            return Err(not_permitted(match peer.door {
                Door::Clients => "administrators come in by the server's other address",
                Door::Admins => "clients come in by the server's other address",
            }));
        }
        if access == Access::Anyone {
            if let Some(peer) = peer {
                self.addresses.take(&peer.subscriber(), Instant::now())?;
            }
            return Ok(Caller::Anonymous);
        }
        let shown = peer.and_then(|peer| Some((peer, peer.certificate.as_deref()?)));
        let Some((peer, certificate)) = shown else {
            if let Some(reason) = peer.and_then(|peer| peer.unnamed.as_deref()) {
                return Err(not_permitted(reason));
            }
            return Err(Refusal::new(
                RefusalReason::NotAuthenticated,
                "this call needs a certificate of the federation",
            ));
        };
        if certificate.federation != *self.federation {
            let detail = format!(
                "the certificate is one of federation `{}`, and this is `{}`",
                certificate.federation, self.federation
            );
            return Err(not_permitted(&detail));
        }
        let caller = match (&certificate.identity, access) {
            (Identity::Client(_), _) if peer.door == Door::Admins => {
                return Err(not_permitted(
                    "clients come in by the server's other address",
                ));
            }
            (Identity::Client(client), Access::Client | Access::Member) => {
                let caller = (certificate.issuer, client.clone());
                self.paces.take(&caller, Instant::now())?;
                self.members.recognise(client, certificate, peer).await?;
                Caller::Client(client.clone())
            }
            (Identity::Admin(name), Access::Admin | Access::Observer | Access::Member) => {
                Caller::Admin(name.clone())
            }
            (Identity::Observer(name), Access::Observer | Access::Member) => {
                Caller::Observer(name.clone())
            }
            (Identity::Server, _) => return Err(not_permitted("a server calls nobody")),
            (
                Identity::Client(_) | Identity::Observer(_),
                Access::Anyone | Access::Admin | Access::Observer,
            ) => {
                return Err(not_permitted("only administrators may call this"));
            }
            (Identity::Admin(_) | Identity::Observer(_), Access::Anyone | Access::Client) => {
                return Err(not_permitted("only clients may call this"));
            }
        };
        Ok(caller)
    }
}

fn not_permitted(detail: &str) -> Refusal {
    Refusal::new(RefusalReason::NotPermitted, detail)
}
