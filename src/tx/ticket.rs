//! Tickets: a commit that has its place and is on its way to the disk.

use crate::engine::{Applied, Engine};
use crate::error::Result;
use crate::types::{Lsn, Seqno};
use crate::wal::flush::Reach;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A commit that is not durable yet. [`wait`](Ticket::wait) blocks until it is; as a future it never
/// blocks and needs no runtime. Dropping it changes nothing: the commit goes its way.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # let db = highwater::Database::in_memory()?;
/// # let users = db.keyspace("users")?;
/// let mut tx = db.write()?;
/// tx.insert(&users, "ada", "1815")?;
/// let ticket = tx.commit_ticket()?;
/// // … prepare the answer …
/// let lsn = ticket.wait()?;
/// assert_eq!(lsn, ticket.lsn());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the commit may not be durable before the ticket says so"]
pub struct Ticket {
    engine: Arc<Engine>,
    applied: Applied,
}

impl Ticket {
    pub(crate) fn new(engine: Arc<Engine>, applied: Applied) -> Ticket {
        Ticket { engine, applied }
    }

    /// Just past the commit's record in the log.
    pub fn lsn(&self) -> Lsn {
        self.applied.lsn
    }

    /// The commit's place in commit order.
    pub fn seqno(&self) -> Seqno {
        self.applied.seqno
    }

    /// Whether the commit is durable now.
    pub fn is_durable(&self) -> bool {
        self.engine.log.durable_seqno() >= self.applied.seqno
    }

    /// Blocks until the commit is durable; shares the sync with others.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) if the log failed.
    pub fn wait(&self) -> Result<Lsn> {
        self.engine.log.flush(self.applied.lsn, Reach::Durable)?;
        Ok(self.applied.lsn)
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let log = &self.engine.log;
        if !log.wake_when_durable(self.applied.lsn, context.waker()) {
            if self.engine.background.is_running() {
                // A thread of the engine leads the flush; `poll` itself does not touch the disk.
                self.engine.background.flush_tickets();
                return Poll::Pending;
            }
            return Poll::Ready(self.wait());
        }
        Poll::Ready(log.check().map(|()| self.applied.lsn))
    }
}
