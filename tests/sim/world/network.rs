//! What lies between the machines: messages take time, get lost, come twice; streams break; processes die.

use super::World;
use crate::sim::calls::{Call, Reply};
use crate::sim::client;
use crate::sim::happening::Happening;
use crate::sim::server::{self, Asked};

impl World {
    fn latency(&mut self) -> u64 {
        if self.random.chance(self.faults.late) {
            self.random.between(1_000, 120_000)
        } else {
            self.random.between(1, 200)
        }
    }

    pub(super) fn fulfil(&mut self, wish: server::Wish) {
        let life = self.server_life;
        match wish {
            server::Wish::EndStream(client, session) => {
                self.after(250, Happening::ClientLosesStream { client, session });
            }
            server::Wish::Reply(asked, reply) => {
                if self.random.chance(self.faults.lost_response) {
                    if let Reply::Seated { session } = reply {
                        self.break_stream(asked.client, session, 60_000);
                    }
                } else {
                    // A seat comes before what is streamed to it.
                    let delay = match reply {
                        Reply::Seated { .. } => 200,
                        Reply::Refused | Reply::Answered { .. } | Reply::Done => self.latency(),
                    };
                    self.after(delay, Happening::Answered { asked, reply });
                }
            }
            server::Wish::Stream(client, streamed) => {
                let session = streamed.session;
                // A stream keeps its order: what it carries takes as long as what came before it.
                let streamed = *streamed;
                self.after(250, Happening::Streamed { client, streamed });
                if self.random.chance(self.faults.broken_stream) {
                    self.break_stream(client, session, 60_000);
                }
            }
            server::Wish::Merge {
                round,
                base,
                updates,
            } => {
                let takes = self.random.between(1, 5_000);
                self.after(
                    takes,
                    Happening::Merged {
                        life,
                        round,
                        base,
                        updates,
                    },
                );
            }
            server::Wish::RollBack(order) => {
                let takes = self.random.between(1, 500);
                self.after(takes, Happening::RolledBack { life, order });
            }
            server::Wish::Publish { round, candidate } => {
                let takes = self.random.between(1, 500);
                self.after(
                    takes,
                    Happening::Published {
                        life,
                        round,
                        candidate,
                    },
                );
            }
        }
    }

    /// Both ends learn of it, each in its own time.
    pub(super) fn break_stream(&mut self, client: usize, session: u64, within: u64) {
        let life = self.server_life;
        let (near, far) = (self.random.below(within), self.random.below(within));
        self.after(near, Happening::ClientLosesStream { client, session });
        self.after(
            far,
            Happening::ServerLosesStream {
                client,
                session,
                life,
            },
        );
    }

    pub(super) fn grant(&mut self, client: usize, wishes: Vec<client::Wish>) {
        let life = self.clients[client].life;
        for wish in wishes {
            match wish {
                client::Wish::Send { id, call } => self.send(client, life, id, &call),
                client::Wish::Work { after, work, event } => self.after(
                    after,
                    Happening::Worked {
                        client,
                        life,
                        work,
                        event,
                    },
                ),
                client::Wish::Remind { after, what } => {
                    self.after(after, Happening::Reminded { client, life, what });
                }
                client::Wish::Ended => {}
            }
        }
        if self.clients[client].is_alive() && self.random.chance(self.faults.client_death) {
            self.kill_client(client);
        }
    }

    fn send(&mut self, client: usize, life: u64, id: u64, call: &Call) {
        let may_repeat = !matches!(call, Call::Attend { .. });
        let copies = 1 + u64::from(may_repeat && self.random.chance(self.faults.repeated));
        for _ in 0..copies {
            if self.random.chance(self.faults.lost_request) {
                continue;
            }
            let asked = Asked { client, life, id };
            let call = call.clone();
            let delay = self.latency();
            self.after(delay, Happening::Arrives { asked, call });
        }
    }

    fn kill_client(&mut self, client: usize) {
        let session = self.clients[client].session();
        self.clients[client].die();
        if let Some(session) = session {
            let (life, delay) = (self.server_life, self.random.below(5_000));
            self.after(
                delay,
                Happening::ServerLosesStream {
                    client,
                    session,
                    life,
                },
            );
        }
        let down = self.random.between(100, 60_000);
        self.after(down, Happening::ClientStarts { client });
    }
}
