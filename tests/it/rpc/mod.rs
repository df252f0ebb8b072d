//! Services: offered, found, called, taken back.

#![allow(clippy::print_stdout, reason = "the helpers of tests may do what tests may")]

mod calls;
mod choice;
mod discovery;
mod failover;
mod hostile;
mod killed;
mod leaving;
mod memory;
mod routes;
mod suite;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foveola::{Advertisement, HandlerError, Node, Request};

const SECOND: Duration = Duration::from_secs(1);

async fn echo(request: Request) -> Result<Bytes, HandlerError> {
    Ok(request.args)
}

/// How often each call was run, by the id in its arguments.
#[derive(Debug, Clone, Default)]
struct Ran(Arc<Mutex<HashMap<u64, u32>>>);

impl Ran {
    fn note(&self, id: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    }

    fn times(&self, id: u64) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or(0)
    }

    fn most(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().max().unwrap_or(0)
    }
}

/// Offers `name` at `node`: its handler takes `pause`, notes the id that it was given, and returns it.
async fn offer(node: &Node, name: &str, ran: &Ran, pause: Duration) -> Advertisement {
    let ran = ran.clone();
    let handler = move |id: u64| {
        let ran = ran.clone();
        async move {
            ran.note(id);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok::<_, HandlerError>(id)
        }
    };
    node.rpc().advertise(name, handler).await.unwrap()
}
