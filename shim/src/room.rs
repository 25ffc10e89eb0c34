//! The memory for requests that wait: for a thread, or for their Start. A client can send them faster than they are performed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::failure::{Answer, too_many};

/// The maximum for all requests together: 16 of the largest ones (`wire::LIMIT`), or tens of thousands of usual ones.
const LIMIT: usize = 64 << 20;
/// What the shim keeps for each request beside its bytes.
const BESIDE: usize = 1 << 10;

/// The memory that is taken.
#[derive(Debug, Default)]
pub struct Room {
    taken: Arc<AtomicUsize>,
}

/// The memory of one request. It is free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// Takes the memory for a request of that length.
    ///
    /// # Errors
    /// The waiting requests have it all.
    pub fn take(&self, length: usize) -> Answer<Share> {
        // dropped if it is too much
        let share = Share { taken: Arc::clone(&self.taken), bytes: length + BESIDE };
        let before = self.taken.fetch_add(share.bytes, Ordering::Relaxed);
        if before + share.bytes > LIMIT { Err(too_many()) } else { Ok(share) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_room_until_the_limit_and_again_when_others_have_ended() {
        let room = Room::default();
        let mut shares = Vec::new();
        while let Ok(share) = room.take(4 << 20) {
            shares.push(share);
        }
        assert_eq!(shares.len(), 15);
        // a refusal takes nothing
        shares.push(room.take(3 << 20).expect("room for a smaller one"));
        assert_eq!(room.take(4 << 20).map(drop), Err(too_many()));
        shares.remove(0);
        shares.push(room.take(4 << 20).expect("room again"));
        drop(shares);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        // many small ones are many
        let small: Vec<_> = std::iter::from_fn(|| room.take(0).ok()).collect();
        assert_eq!(small.len(), LIMIT / BESIDE);
    }
}
