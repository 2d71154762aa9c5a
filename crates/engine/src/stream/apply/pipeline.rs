//! Requests that leave at once and are answered in order: a batch costs one round trip, not one a statement.

use std::{collections::VecDeque, future::Future, pin::Pin, task::Poll};

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

/// Requests under way on one connection, each with a note that says what it was.
pub struct Pipeline<'a, N> {
    pending: VecDeque<(N, Answer<'a>)>,
}

impl<'a, N> Pipeline<'a, N> {
    /// Nothing under way.
    pub fn new() -> Self {
        Self { pending: VecDeque::new() }
    }

    /// Puts a request on the wire. `request` resolves to the number of rows it changed.
    pub fn send(&mut self, note: N, request: impl Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a) {
        let mut request: Answer<'a> = Box::pin(request);
        // The first poll sends; the answer is of interest later.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let Poll::Ready(result) = request.as_mut().poll(&mut context) {
            request = Box::pin(std::future::ready(result));
        }
        self.pending.push_back((note, request));
    }

    /// Requests that were not answered yet.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// The oldest request's note and answer. Not cancel-safe: a dropped answer is lost.
    pub async fn next(&mut self) -> Option<(N, Result<u64, tokio_postgres::Error>)> {
        let (note, answer) = self.pending.pop_front()?;
        Some((note, answer.await))
    }
}
