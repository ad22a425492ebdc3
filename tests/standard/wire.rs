//! Packets that a client sends, put together by hand: what is shown here is not shown by the broker's own codec.

/// MQTT 3.1.
pub const V31: u8 = 3;
/// MQTT 3.1.1.
pub const V311: u8 = 4;
/// MQTT 5.0.
pub const V5: u8 = 5;
/// The versions, for what holds in all of them.
pub const ALL: [u8; 3] = [V31, V311, V5];

pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Two bytes of length, and the bytes.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = u16::try_from(bytes.len()).expect("it fits a field");
    [&len.to_be_bytes(), bytes].concat()
}

pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7F).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A packet of any kind: its first byte and what follows the remaining length.
pub fn packet(header: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[header][..], &varint(body.len()), body].concat()
}

/// The properties with their length; nothing before 5.0.
fn block(level: u8, properties: &[u8]) -> Vec<u8> {
    if level == V5 { [&varint(properties.len())[..], properties].concat() } else { Vec::new() }
}

/// A property that is a string, or bytes.
pub fn text(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[id][..], &field(value)].concat()
}

/// A user property.
pub fn pair(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &field(name), &field(value)].concat()
}

#[derive(Debug, Clone)]
pub struct Connect {
    pub level: u8,
    pub flags: u8,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    pub client_id: Vec<u8>,
    /// Whatever follows the client id.
    pub rest: Vec<u8>,
    /// What the client says it can take, for the checks.
    pub max_packet: usize,
    pub alias_maximum: u16,
}

/// A client that begins anew and leaves nothing behind.
pub fn hello(level: u8, client_id: &str) -> Connect {
    Connect {
        level,
        flags: 0x02,
        keep_alive: 0,
        properties: Vec::new(),
        client_id: client_id.into(),
        rest: Vec::new(),
        max_packet: usize::MAX,
        alias_maximum: 0,
    }
}

/// A client that resumes its session, and leaves it behind for an hour.
pub fn resume(level: u8, client_id: &str) -> Connect {
    let mut connect = hello(level, client_id);
    connect.flags = 0;
    if level == V5 { connect.property(&[0x11, 0, 0, 0x0E, 0x10]) } else { connect }
}

impl Connect {
    pub fn property(mut self, bytes: &[u8]) -> Self {
        self.properties.extend_from_slice(bytes);
        self
    }

    pub fn receive_maximum(self, count: u16) -> Self {
        let [high, low] = count.to_be_bytes();
        self.property(&[0x21, high, low])
    }

    pub fn max_packet(mut self, bytes: u32) -> Self {
        self.max_packet = usize::try_from(bytes).expect("a size");
        self.property(&[&[0x27][..], &bytes.to_be_bytes()].concat())
    }

    /// The client takes topic aliases up to this one.
    pub fn alias_maximum(mut self, count: u16) -> Self {
        self.alias_maximum = count;
        let [high, low] = count.to_be_bytes();
        self.property(&[0x22, high, low])
    }

    pub fn expiry(self, secs: u32) -> Self {
        self.property(&[&[0x11][..], &secs.to_be_bytes()].concat())
    }

    pub fn keep_alive(mut self, secs: u16) -> Self {
        self.keep_alive = secs;
        self
    }

    pub fn will(self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.will_with(&[], topic, payload, qos, retain)
    }

    pub fn will_with(mut self, properties: &[u8], topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.flags |= 0x04 | qos << 3 | u8::from(retain) << 5;
        self.rest.extend(block(self.level, properties));
        self.rest.extend(field(topic));
        self.rest.extend(field(payload));
        self
    }

    pub fn user(mut self, name: &str) -> Self {
        self.flags |= 0x80;
        self.rest.extend(field(name));
        self
    }

    pub fn password(mut self, password: &str) -> Self {
        self.flags |= 0x40;
        self.rest.extend(field(password));
        self
    }

    pub fn body(&self) -> Vec<u8> {
        let name = if self.level == V31 { "MQIsdp" } else { "MQTT" };
        let fixed = [&field(name)[..], &[self.level, self.flags], &self.keep_alive.to_be_bytes()].concat();
        [fixed, block(self.level, &self.properties), field(&self.client_id), self.rest.clone()].concat()
    }

    pub fn bytes(&self) -> Vec<u8> {
        packet(0x10, self.body())
    }
}

#[derive(Debug, Clone)]
pub struct Publish {
    pub flags: u8,
    pub topic: Vec<u8>,
    pub pkid: u16,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// A PUBLISH at QoS 0.
pub fn publish(topic: &str, payload: &str) -> Publish {
    Publish { flags: 0, topic: topic.into(), pkid: 0, properties: Vec::new(), payload: payload.into() }
}

impl Publish {
    pub fn qos(mut self, qos: u8, pkid: u16) -> Self {
        self.flags |= qos << 1;
        self.pkid = pkid;
        self
    }

    pub fn retain(mut self) -> Self {
        self.flags |= 0x01;
        self
    }

    pub fn dup(mut self) -> Self {
        self.flags |= 0x08;
        self
    }

    pub fn property(mut self, bytes: &[u8]) -> Self {
        self.properties.extend_from_slice(bytes);
        self
    }

    pub fn bytes(&self, level: u8) -> Vec<u8> {
        let pkid = self.pkid.to_be_bytes();
        let pkid = if self.flags & 0x06 == 0 { &[][..] } else { &pkid };
        let body = [&field(&self.topic)[..], pkid, &block(level, &self.properties), &self.payload].concat();
        packet(0x30 | self.flags, body)
    }
}

/// SUBSCRIBE with properties and any number of filters with their options.
pub fn subscribe(level: u8, pkid: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters = filters.iter().map(|(filter, options)| [&field(filter)[..], &[*options]].concat());
    packet(
        0x82,
        [pkid.to_be_bytes().to_vec(), block(level, properties), filters.collect::<Vec<_>>().concat()].concat(),
    )
}

pub fn unsubscribe(level: u8, pkid: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<Vec<u8>> = filters.iter().map(field).collect();
    packet(0xA2, [pkid.to_be_bytes().to_vec(), block(level, &[]), filters.concat()].concat())
}

fn acknowledgement(header: u8, pkid: u16) -> Vec<u8> {
    packet(header, pkid.to_be_bytes())
}

pub fn puback(pkid: u16) -> Vec<u8> {
    acknowledgement(0x40, pkid)
}

pub fn pubrec(pkid: u16) -> Vec<u8> {
    acknowledgement(0x50, pkid)
}

pub fn pubrel(pkid: u16) -> Vec<u8> {
    acknowledgement(0x62, pkid)
}

pub fn pubcomp(pkid: u16) -> Vec<u8> {
    acknowledgement(0x70, pkid)
}
