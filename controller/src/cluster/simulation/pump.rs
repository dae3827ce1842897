//! The controller's ends of streams: the real bodies of responses, polled while there is room.
//!
//! Owns what the real receiving half does: it passes reports on, ends the response when the cluster says so, and tells the
//! cluster of the end.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use weft_core::{
    membership::Told,
    types::{NodeName, Revision},
};
use weft_proto::v1::{self, watch_response::Message};

use super::{
    Checked, hold,
    link::Down,
    versions,
    world::{Event, World},
};
use crate::{
    cluster::{Command, Refusal, Report, Session},
    rpc::watch::body::Outbound,
};

/// Messages under way at most: what a window of HTTP/2 does.
const WINDOW: usize = 6;

type Response = Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>;

/// One end.
pub(super) struct End {
    pub(super) node: NodeName,
    /// What the agent said it holds.
    held: (Option<Revision>, Option<Told>),
    pub(super) session: Option<Session>,
    /// Reports that came before the stream was accepted.
    pub(super) waiting: VecDeque<Report>,
    response: Option<Response>,
    end: Option<oneshot::Sender<Status>>,
    /// What came of a message so far.
    begun: BytesMut,
    /// The revision that the whole messages sent so far give.
    told: Option<Revision>,
}

impl End {
    pub(super) fn new(node: NodeName, held: (Option<Revision>, Option<Told>)) -> Self {
        Self {
            node,
            held,
            session: None,
            waiting: VecDeque::new(),
            response: None,
            end: None,
            begun: BytesMut::new(),
            told: None,
        }
    }
}

impl World {
    /// The cluster has accepted a stream, or not.
    pub(super) fn connected(&mut self, link: u64, answer: Result<Session, Refusal>) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        let source = self.links.get(&link).map(|link| link.source);
        let (Some(end), Some(source)) = (server.ends.get_mut(&link), source) else {
            // Nobody is there any more; the cluster finds out as it would.
            return Ok(());
        };
        match answer {
            Ok(session) => {
                let fanout = server.actor.publisher.fanout();
                // A controller of version 0.1 does not see the other digest.
                let told = end.held.1.map(|told| if server.is_old { Told { more: None, ..told } } else { told });
                let (outbound, ends) = Outbound::new(fanout, fanout.begin(end.held.0, told));
                end.response = Some(Box::pin(outbound.into_body()));
                end.end = Some(ends.end);
                let (node, id) = (end.node.clone(), session.id);
                end.session = Some(session);
                for report in std::mem::take(&mut end.waiting) {
                    self.command(Command::Report(node.clone(), id, report, source));
                }
                self.soon(0, 10, Event::Pump(link));
            }
            Err(refusal) => {
                self.counts.stale += u64::from(matches!(refusal, Refusal::StaleIdentity { .. }));
                let end = server.ends.remove(&link);
                let is_claim = end.is_some_and(|end| refusal.is_about_addresses() && !self.is_honest(&end.node));
                self.counts.turned_away += u64::from(is_claim);
                self.end_of_stream(link, Status::from(refusal).code());
            }
        }
        Ok(())
    }

    /// The agent's end is gone.
    pub(super) fn server_notices(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.server_open = false;
        let Some(server) = &mut self.server else { return };
        if let Some(End { node, session: Some(session), .. }) = server.ends.remove(&number) {
            self.command(Command::Disconnect(node, session.id));
        }
    }

    /// Ends the responses of streams that the cluster has closed.
    pub(super) fn close_ends(&mut self) {
        let liar = self.liar().map(|liar| self.agents[liar].name.clone());
        let Some(server) = &mut self.server else { return };
        let mut closed = Vec::new();
        for (link, end) in &mut server.ends {
            let Some(session) = &mut end.session else { continue };
            let Ok(refusal) = session.closed.try_recv() else { continue };
            if refusal.is_about_addresses() && liar.as_ref() == Some(&end.node) {
                self.counts.turned_away += 1;
            }
            closed.push((*link, Command::Disconnect(end.node.clone(), session.id)));
            end.session = None;
            if let Some(sender) = end.end.take() {
                let _gone = sender.send(refusal.into());
            }
        }
        for (link, command) in closed {
            self.command(command);
            self.soon(0, 10, Event::Pump(link));
        }
    }

    /// Sends what there is while there is room.
    pub(super) fn pump(&mut self, number: u64) -> Checked {
        loop {
            let Some(link) = self.links.get(&number).filter(|link| link.server_open) else { return Ok(()) };
            let is_cut = link.is_cut;
            if link.down.len() >= WINDOW {
                return Ok(());
            }
            let Some(end) = self.server.as_mut().and_then(|server| server.ends.get_mut(&number)) else { return Ok(()) };
            let Some(response) = &mut end.response else { return Ok(()) };
            let frame = match response.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return self.check_told(number),
                Poll::Ready(frame) => frame,
            };
            match frame {
                Some(Ok(frame)) => self.take_frame(number, frame, is_cut)?,
                Some(Err(never)) => match never {},
                None => return Ok(()),
            }
        }
    }

    fn take_frame(&mut self, number: u64, frame: Frame<Bytes>, is_cut: bool) -> Checked {
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let code = Status::from_header_map(&trailers).map_or(Code::Unknown, |status| status.code());
                if let Some(server) = &mut self.server {
                    server.ends.remove(&number);
                }
                self.end_of_stream(number, code);
                return Ok(());
            }
        };
        let Some(end) = self.server.as_mut().and_then(|server| server.ends.get_mut(&number)) else { return Ok(()) };
        end.begun.extend_from_slice(&bytes);
        while let Some(message) = whole_message(&mut self.end_at(number).begun) {
            let mut message = v1::WatchResponse::decode(message)?;
            if self.server.as_ref().is_some_and(|server| server.is_old) {
                versions::to_0_1(&mut message);
            }
            self.check_message(&message)?;
            if !matches!(message.message, Some(Message::SnapshotChunk(_))) {
                self.end_at(number).told = message.revision.map(Into::into);
            }
            if !is_cut {
                self.send_message(number, message);
            }
        }
        Ok(())
    }

    /// A stream that has room and nothing to send has told everything.
    fn check_told(&self, number: u64) -> Checked {
        let Some(server) = &self.server else { return Ok(()) };
        let Some(End { node, told, .. }) = server.ends.get(&number) else { return Ok(()) };
        let published = Revision::new(server.actor.epoch, server.actor.publisher.fanout().published());
        hold!(*told >= Some(published), "{node} was told {told:?}, and {published} is withheld from it");
        Ok(())
    }

    fn end_at(&mut self, number: u64) -> &mut End {
        let end = self.server.as_mut().and_then(|server| server.ends.get_mut(&number));
        end.expect("nothing that a message causes ends a stream at once")
    }

    /// A chunk may have any size: here they are small, so that few members make several.
    fn send_message(&mut self, number: u64, message: v1::WatchResponse) {
        let revision = message.revision;
        let Some(Message::SnapshotChunk(chunk)) = message.message else {
            return self.send_down(number, Down::Message(message));
        };
        for member in chunk.members {
            let message = Some(Message::SnapshotChunk(v1::SnapshotChunk { members: vec![member] }));
            self.send_down(number, Down::Message(v1::WatchResponse { revision, message }));
        }
    }

    fn end_of_stream(&mut self, number: u64, code: Code) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.server_open = false;
        self.send_down(number, Down::End(code));
    }
}

/// The first whole message of what has come: five octets of gRPC's framing, then as many as they say.
fn whole_message(begun: &mut BytesMut) -> Option<Bytes> {
    let length = begun.get(1..5)?.try_into().map(u32::from_be_bytes).expect("four octets");
    let length = usize::try_from(length).expect("32 bits fit");
    if begun.len() < length + 5 {
        return None;
    }
    begun.advance(5);
    Some(begun.split_to(length).freeze())
}
