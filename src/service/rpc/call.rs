//! Calling a service: whom, whom next, and when to stop.
//!
//! A call that may run twice overlaps its attempts: when a provider takes longer than it usually does,
//! another is asked as well, and the first answer counts. Any other call goes to another provider only
//! when the one before it has surely not begun.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::attempt::{Ask, Patience, Tried};
use super::directory::{Providers, Service};
use super::discover::Found;
use super::error::CallError;
use super::known::Known;
use super::report::{CallReport, Source};
use super::{RpcCounts, RpcService, lock};
use crate::id::NodeId;
use crate::rpc::attempts::{Attempts, Failure};
use crate::rpc::budget::RetryBudget;
use crate::rpc::config::CALL_TIMEOUT_MAX;
use crate::rpc::select::{Selection, choose};
use crate::runtime;
use crate::wire::{BODY_MAX, CALL_OVERHEAD_MAX};

/// The shortest time after which an idempotent call goes to another provider as well, or asks again if it may.
const PATIENCE_MIN: Duration = Duration::from_millis(20);

/// The part of the time left, one in so many, that connecting to one of several providers may take.
const CONNECTING_SHARE: u32 = 3;

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Duration,
    pub(crate) selection: Selection,
    pub(crate) idempotent: bool,
    pub(crate) hedged: bool,
    pub(crate) alone: bool,
    pub(crate) cast: bool,
    /// Only this node, whoever else offers the service.
    pub(crate) node: Option<NodeId>,
}

/// How far a call has come already.
pub(super) struct Start {
    pub(super) now: Instant,
    /// Whose turn it is, if that was asked.
    pub(super) turn: Option<u64>,
    /// The first attempt, which has failed.
    pub(super) first: Option<Tried>,
}

/// Whether a call may go on after `error`, as far as its caller permits.
fn may_go_on(error: &CallError, options: &CallOptions) -> bool {
    match error.failure() {
        Failure::NotExecuted | Failure::Overloaded => true,
        Failure::MaybeExecuted => options.idempotent,
        Failure::Final => false,
    }
}

/// One call while it is made.
struct Calling<'a> {
    rpc: &'a Arc<RpcService>,
    service: &'a Arc<Service>,
    options: &'a CallOptions,
    ask: Ask,
    /// When the attempt that is next begins.
    now: Instant,
    /// When the last attempt began.
    asked: Instant,
    /// Whose turn it is, if that was asked already.
    turn: Option<u64>,
    deadline: Instant,
    /// Providers that were asked.
    tried: SmallVec<[NodeId; 4]>,
    report: Option<&'a mut CallReport>,
}

type Running<'f> = Pin<Box<dyn Future<Output = Tried> + Send + 'f>>;

impl RpcService {
    /// Makes a call from its beginning, or after its `first` attempt has failed; what it went through is
    /// added to `report`.
    pub(super) async fn call_whole(
        self: &Arc<Self>,
        service: &Arc<Service>,
        args: Bytes,
        options: &CallOptions,
        Start { now, turn, first }: Start,
        mut report: Option<&mut CallReport>,
    ) -> Result<Bytes, CallError> {
        RpcCounts::add(&self.counts.whole);
        // What is known of the first attempt stands, whatever hinders the next.
        let known = first.as_ref().and_then(|tried| tried.result.as_ref().err().cloned());
        if let Some(error) = known.as_ref().filter(|error| !may_go_on(error, options)) {
            if error.failure() == Failure::MaybeExecuted {
                service.doubt(runtime::now());
            }
            return Err(error.clone());
        }
        if self.is_closing() {
            return Err(known.unwrap_or(CallError::Shutdown));
        }
        if args.len() + CALL_OVERHEAD_MAX > BODY_MAX as usize {
            return Err(CallError::TooLarge);
        }
        let deadline = now + options.timeout.min(CALL_TIMEOUT_MAX);
        let found = match options.node {
            None => self.find(service, now, deadline).await,
            Some(node) if node == self.local => self
                .registry
                .get(&service.name)
                .map(Found::Own)
                .ok_or(CallError::NoService { provider: node }),
            Some(node) => Ok(Found::Others(Arc::new([service.known(node)]), Source::Named)),
        };
        if let Some(report) = report.as_deref_mut() {
            report.discovery = runtime::now().saturating_duration_since(now);
            if let Ok(Found::Others(_, source)) = &found {
                report.source = *source;
            }
        }
        let (providers, source) = match found.map_err(|error| known.unwrap_or(error))? {
            Found::Own(offer) => return self.call_own(&offer, args, options, deadline, report).await,
            Found::Others(providers, source) => (providers, source),
        };
        // Finding them may have taken a while.
        let now = if source == Source::Cache && first.is_none() { now } else { runtime::now() };
        let ask =
            Ask { name: Arc::clone(&service.name), args, cast: options.cast, alone: options.alone, deadline };
        let tried = SmallVec::new();
        let mut calling =
            Calling { rpc: self, service, options, ask, now, asked: now, turn, deadline, tried, report };
        let result = calling.run(&providers, first).await;
        match result {
            // Whoever is remembered may have gone, and others come.
            Err(error) if source == Source::Cache && calling.may_ask_again(&error) => {
                calling.elsewhere(error).await
            }
            result => result,
        }
    }
}

impl Calling<'_> {
    /// Asks `providers`, after the `first` attempt, if there was one.
    async fn run(&mut self, providers: &Providers, first: Option<Tried>) -> Result<Bytes, CallError> {
        let mut attempts = Attempts::new(providers.len(), self.options.idempotent);
        if let Some(tried) = first {
            self.tried.push(tried.provider.id);
            self.tell(&tried);
            match tried.result {
                Err(error) if !self.goes_on(&mut attempts, &error) => return Err(error),
                Err(_) => {}
                Ok(result) => return Ok(result),
            }
        } else {
            self.service.budget(RetryBudget::earn);
        }
        if self.options.idempotent && providers.len() > 1 {
            self.overlapping(providers, &mut attempts).await
        } else {
            self.one_by_one(providers, &mut attempts).await
        }
    }

    /// Whether a call that has come to `error` may go to others than those that were remembered.
    fn may_ask_again(&self, error: &CallError) -> bool {
        match error.failure() {
            Failure::NotExecuted => true,
            Failure::MaybeExecuted => {
                self.options.idempotent
                    && runtime::now() < self.deadline
                    && self.service.budget(RetryBudget::spend)
            }
            Failure::Overloaded | Failure::Final => false,
        }
    }

    /// Asks the DHT again, and those that it names besides. A call that may run twice also goes to those
    /// again that were lost: they may have come back.
    async fn elsewhere(&mut self, error: CallError) -> Result<Bytes, CallError> {
        // What was found before it was asked does not tell where it has gone.
        self.service.renew(self.asked);
        let Ok((providers, source)) = self.rpc.discover(self.service, self.deadline).await else {
            return Err(error);
        };
        let mut others: Providers =
            providers.iter().filter(|known| !self.tried.contains(&known.id)).cloned().collect();
        if others.is_empty() && error.failure() == Failure::MaybeExecuted {
            self.tried.clear();
            others = providers;
        }
        if others.is_empty() || source != Source::Dht {
            return Err(error);
        }
        self.now = runtime::now();
        let result = self.run(&others, None).await;
        // That it may have run stands, whatever comes after.
        result.map_err(|last| if error.maybe_executed() && !last.maybe_executed() { error } else { last })
    }

    /// The provider to ask next: the best that was not asked and may be, and if there is none, one that
    /// is held to be out of order.
    fn choose(&mut self, providers: &Providers) -> Option<Arc<Known>> {
        if let [only] = &**providers {
            return self.tried.is_empty().then(|| Arc::clone(only));
        }
        let (selection, now) = (self.options.selection, self.now);
        let turn = self.turn.take().unwrap_or_else(|| self.service.turn());
        let draw = self.rpc.draw();
        let untried = |i: usize| !self.tried.contains(&providers[i].id);
        let weight =
            |i: usize| untried(i).then(|| providers[i].standing(|standing| standing.weight(now))).flatten();
        let chosen = choose(selection, turn, draw, providers.len(), weight);
        // Nobody is held to be in order. How often each has failed says little then, and where calls wait
        // already more would wait: anybody who is connected and answers others, or else anybody.
        let is_there = |id: &NodeId| self.rpc.pool.is_live(id) && !self.rpc.pool.is_suspect(id);
        let any = |among: &dyn Fn(&NodeId) -> bool| {
            let load = |i: usize| (untried(i) && among(&providers[i].id)).then_some(0);
            choose(Selection::Random, turn, draw, providers.len(), load)
        };
        let chosen = chosen.or_else(|| any(&is_there)).or_else(|| any(&|_| true));
        chosen.map(|i| Arc::clone(&providers[i]))
    }

    fn tell(&mut self, tried: &Tried) {
        if let Some(report) = &mut self.report {
            report.attempts.push(tried.as_attempt());
        }
        match &tried.result {
            Ok(_) if self.options.hedged => lock(&self.service.latencies).observe(tried.took),
            Err(CallError::NoService { provider }) => self.service.disowned(provider),
            Err(error) if matches!(error.failure(), Failure::NotExecuted | Failure::MaybeExecuted) => {
                self.service.doubt(runtime::now());
            }
            _ => {}
        }
    }

    /// Whether `error` lets the call go to another provider.
    fn goes_on(&mut self, attempts: &mut Attempts, error: &CallError) -> bool {
        self.now = runtime::now();
        let goes_on =
            self.now < self.deadline && self.service.budget(|budget| attempts.after(error.failure(), budget));
        if goes_on {
            RpcCounts::add(&self.rpc.counts.failovers);
        }
        goes_on
    }

    async fn one_by_one(
        &mut self,
        providers: &Providers,
        attempts: &mut Attempts,
    ) -> Result<Bytes, CallError> {
        let mut last = CallError::NoProvider;
        while let Some(provider) = self.choose(providers) {
            self.tried.push(provider.id);
            self.asked = self.now;
            let patience = self.patience(providers, None);
            let tried = self.rpc.attempt(self.now, provider, &self.ask, patience).await;
            self.tell(&tried);
            match tried.result {
                Ok(result) => return Ok(result),
                Err(error) if self.goes_on(attempts, &error) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn overlapping(
        &mut self,
        providers: &Providers,
        attempts: &mut Attempts,
    ) -> Result<Bytes, CallError> {
        let (rpc, ask) = (self.rpc, self.ask.clone());
        let mut running: SmallVec<[Running<'_>; 4]> = SmallVec::new();
        // What is known of the call as a whole: that it may have run stands, whatever comes after.
        let mut last = CallError::NoProvider;
        loop {
            let next = self.choose(providers);
            let mut patience = None;
            if let Some(provider) = next {
                let silent = self.usual(&provider);
                self.tried.push(provider.id);
                self.asked = self.now;
                let each = self.patience(providers, Some(silent));
                running.push(Box::pin(rpc.attempt(self.now, provider, &ask, each)));
                patience = Some(self.now + silent);
            }
            loop {
                if running.is_empty() {
                    return Err(last);
                }
                let until = patience.unwrap_or(self.deadline);
                let Ok(tried) = tokio::time::timeout_at(until.into(), first(&mut running)).await else {
                    let late =
                        CallError::Timeout { provider: self.tried.last().copied(), maybe_executed: true };
                    if patience.take().is_none() {
                        return Err(late);
                    }
                    self.service.doubt(runtime::now());
                    if self.goes_on(attempts, &late) {
                        RpcCounts::add(&rpc.counts.overlaps);
                        break;
                    }
                    // The budget may be empty for a moment only.
                    patience = attempts.is_left().then(|| self.now + PATIENCE_MIN);
                    continue;
                };
                self.tell(&tried);
                match tried.result {
                    Ok(result) => {
                        if let Some(report) = &mut self.report {
                            report.overtaken = running.len();
                        }
                        return Ok(result);
                    }
                    Err(error) => {
                        if error.failure() == Failure::Final {
                            return Err(error);
                        }
                        let goes_on = self.goes_on(attempts, &error);
                        if error.maybe_executed() || !last.maybe_executed() {
                            last = error;
                        }
                        if goes_on {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// How long the provider that was chosen last is tried: as long as there are others, connecting may
    /// take a part of the time only.
    fn patience(&self, providers: &Providers, silent: Option<Duration>) -> Patience {
        let left = self.deadline.saturating_duration_since(self.now);
        let others = self.tried.len() < providers.len();
        Patience {
            connected: if others { self.now + left / CONNECTING_SHARE } else { self.deadline },
            silent,
        }
    }

    /// How long `provider` has before another is asked as well.
    fn usual(&self, provider: &Known) -> Duration {
        let left = self.deadline.saturating_duration_since(self.now);
        let hedge = || lock(&self.service.latencies).p95();
        let usual = || provider.standing(|standing| standing.patience());
        let patience = if self.options.hedged { hedge().or_else(usual) } else { usual() };
        // What is not known yet must leave time for the others.
        let most = left / 4;
        patience.map_or(most, |patience| patience.clamp(PATIENCE_MIN, most.max(PATIENCE_MIN)))
    }
}

/// The first of `running` to end, which is taken out.
async fn first(running: &mut SmallVec<[Running<'_>; 4]>) -> Tried {
    poll_fn(|cx| {
        for i in 0..running.len() {
            if let Poll::Ready(tried) = running[i].as_mut().poll(cx) {
                drop(running.remove(i));
                return Poll::Ready(tried);
            }
        }
        Poll::Pending
    })
    .await
}
