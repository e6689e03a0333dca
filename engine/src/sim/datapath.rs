//! datapath is the network's end at one worker.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quiclane_datapath::{
    Counters, Datapath, SendSlot, Socket, SocketError, SocketId, SocketOptions, Train, Transmit,
    WaitError, Waker,
};

use super::network::Network;

/// A datapath without a kernel.
pub(super) struct SimDatapath {
    network: Rc<RefCell<Network>>,
    index: usize,
    free: Vec<SendSlot>,
    counters: Arc<Counters>,
    waker: Waker,
    /// Memory that trains are lent from.
    train: Vec<u8>,
}

impl SimDatapath {
    pub(super) fn new(network: Rc<RefCell<Network>>, host: IpAddr, slots: usize) -> Self {
        let waker = Waker::simulated();
        let index = network.borrow_mut().add_datapath(host, waker.clone());
        let free = (0..u32::try_from(slots).unwrap_or(u32::MAX)).map(SendSlot::new).collect();
        Self { network, index, free, counters: Arc::default(), waker, train: Vec::new() }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Datapath for SimDatapath {
    fn backend(&self) -> &'static str {
        "sim"
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<(), WaitError> {
        if self.waker.take() {
            self.counters.wakeups.add(1);
        }
        Ok(())
    }

    fn receive(&mut self, trains_max: usize, sink: &mut dyn FnMut(Train<'_>)) -> usize {
        for received in 0..trains_max {
            let meta = self.network.borrow_mut().take_train(self.index, &mut self.train);
            let Some(meta) = meta else { return received };
            let train = Train { bytes: &self.train, meta };
            self.counters.recv_trains.add(1);
            self.counters.recv_datagrams.add(train.datagrams().count() as u64);
            self.counters.recv_bytes.add(self.train.len() as u64);
            sink(train);
        }
        trains_max
    }

    fn segments_max(&self, segment_bytes: usize) -> usize {
        (SendSlot::CAPACITY / segment_bytes.max(1)).clamp(1, SEGMENTS_MAX)
    }

    fn slot(&mut self) -> Option<SendSlot> {
        let slot = self.free.pop();
        if slot.is_none() {
            self.counters.slots_exhausted.add(1);
        }
        slot
    }

    fn release(&mut self, mut slot: SendSlot) {
        slot.payload.clear();
        self.free.push(slot);
    }

    fn send(&mut self, slot: SendSlot, transmit: &Transmit) {
        let segment = transmit.segment.unwrap_or(slot.payload.len()).max(1);
        let mut network = self.network.borrow_mut();
        self.counters.send_trains.add(1);
        for datagram in slot.payload.chunks(segment) {
            let counter = if network.send(self.index, transmit, datagram) {
                self.counters.send_bytes.add(datagram.len() as u64);
                &self.counters.send_datagrams
            } else {
                &self.counters.send_errors
            };
            counter.add(1);
        }
        drop(network);
        self.release(slot);
    }

    fn flush(&mut self) {}

    /// Kernel sockets have no place here.
    fn adopt(&mut self, socket: Socket) -> Result<SocketId, SocketError> {
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(SocketError::Bind { address: socket.local_addr(), source })
    }

    fn open(
        &mut self,
        local: SocketAddr,
        _options: &SocketOptions,
    ) -> Result<SocketId, SocketError> {
        Ok(self.network.borrow_mut().open(self.index, local))
    }

    fn close(&mut self, socket: SocketId) {
        self.network.borrow_mut().close(self.index, socket);
    }

    fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        self.network.borrow().local_addr(self.index, socket)
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// As Linux since 6.9.
const SEGMENTS_MAX: usize = 128;
