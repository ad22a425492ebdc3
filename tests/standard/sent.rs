//! Packets that the server sends, read apart from the broker's own codec, and held against the tables of the standard:
//! no test gets to see a packet that chapter 3 does not allow.

use crate::wire::V5;

/// What a packet may carry: its type, its properties in 5.0, and its reason codes there.
struct Form {
    name: &'static str,
    properties: &'static [u8],
    codes: &'static [u8],
}

const NONE: Form = Form { name: "", properties: &[], codes: &[] };

/// By packet type; only what a server may send (5.0, sections 3.2 to 3.15).
const FORMS: [Form; 16] = [
    NONE,
    NONE,
    Form {
        name: "connack",
        properties: &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
        ],
        codes: &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
            0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    },
    Form { name: "publish", properties: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26], codes: &[] },
    Form { name: "puback", properties: &[0x1F, 0x26], codes: PUBLISH_CODES },
    Form { name: "pubrec", properties: &[0x1F, 0x26], codes: PUBLISH_CODES },
    Form { name: "pubrel", properties: &[0x1F, 0x26], codes: &[0x00, 0x92] },
    Form { name: "pubcomp", properties: &[0x1F, 0x26], codes: &[0x00, 0x92] },
    NONE,
    Form {
        name: "suback",
        properties: &[0x1F, 0x26],
        codes: &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
    },
    NONE,
    Form { name: "unsuback", properties: &[0x1F, 0x26], codes: &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91] },
    NONE,
    Form { name: "pingresp", properties: &[], codes: &[] },
    Form {
        name: "disconnect",
        properties: &[0x1C, 0x1F, 0x26],
        codes: &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
            0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
    },
    Form { name: "auth", properties: &[0x15, 0x16, 0x1F, 0x26], codes: &[0x00, 0x18] },
];

const PUBLISH_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    pub name: &'static str,
    /// The low half of the first byte.
    pub flags: u8,
    pub pkid: u16,
    /// Reason codes, or return codes before 5.0.
    pub codes: Vec<u8>,
    pub session_present: bool,
    pub topic: String,
    pub payload: Vec<u8>,
    pub properties: Vec<(u8, Vec<u8>)>,
    /// Length of the whole packet.
    pub len: usize,
}

/// Takes bytes off the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(len).expect("the packet ends inside a field");
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn field(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for n in 0..4 {
            let byte = self.u8();
            value |= usize::from(byte & 0x7F) << (7 * n);
            if byte < 0x80 {
                assert!(n == 0 || byte != 0, "a length in more bytes than it needs [MQTT-1.5.5-1]");
                return value;
            }
        }
        panic!("a length of more than four bytes");
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.field().to_vec()).expect("UTF-8 [MQTT-1.5.4-1]");
        assert!(!text.contains('\0'), "U+0000 [MQTT-1.5.4-2]");
        text
    }

    /// The value of a property, checked for its form.
    fn value(&mut self, id: u8) -> Vec<u8> {
        let before = self.0;
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
                assert!(self.u8() <= 1, "property {id:#04X} is a byte that is 0 or 1");
            }
            0x13 | 0x21 | 0x22 | 0x23 => drop(self.u16()),
            0x02 | 0x11 | 0x18 | 0x27 => drop(self.take(4)),
            0x0B => drop(self.varint()),
            0x09 | 0x16 => return self.field().to_vec(),
            0x26 => drop((self.text(), self.text())),
            _ => return self.text().into_bytes(),
        }
        before[..before.len() - self.0.len()].to_vec()
    }
}

/// The whole packets in `bytes`, in order.
pub fn read(level: u8, bytes: &[u8]) -> Vec<Sent> {
    let mut left = Cursor(bytes);
    let mut found = Vec::new();
    while !left.0.is_empty() {
        let start = left.0.len();
        let header = left.u8();
        let len = left.varint();
        let body = left.take(len);
        let mut sent = read_one(level, header, body);
        sent.len = start - left.0.len();
        found.push(sent);
    }
    found
}

fn read_one(level: u8, header: u8, body: &[u8]) -> Sent {
    let (kind, flags) = (header >> 4, header & 0x0F);
    let form = &FORMS[usize::from(kind)];
    assert!(!form.name.is_empty(), "a server does not send packets of type {kind}");
    assert!(level == V5 || !matches!(form.name, "disconnect" | "auth"), "no {} before 5.0", form.name);
    match form.name {
        "publish" => assert!(flags >> 1 & 3 != 3 && flags & 0x0E != 0x08, "flags {flags:#06b} of PUBLISH"),
        "pubrel" => assert_eq!(flags, 2, "flags of PUBREL [MQTT-3.6.1-1]"),
        _ => assert_eq!(flags, 0, "reserved flags of {} [MQTT-2.1.3-1]", form.name),
    }
    let mut sent = Sent { name: form.name, flags, ..Sent::default() };
    let mut body = Cursor(body);
    match form.name {
        "connack" => {
            let acknowledge = body.u8();
            assert!(acknowledge <= 1, "reserved flags of CONNACK [MQTT-3.2.2-1]");
            sent.session_present = acknowledge == 1;
            sent.codes.push(body.u8());
            sent.read_properties(level, form, &mut body);
        }
        "publish" => {
            sent.topic = body.text();
            if flags & 0x06 != 0 {
                sent.pkid = body.u16();
                assert!(sent.pkid != 0, "packet identifier 0 [MQTT-2.2.1-4]");
            }
            sent.read_properties(level, form, &mut body);
            sent.payload = body.take(body.0.len()).to_vec();
        }
        "puback" | "pubrec" | "pubrel" | "pubcomp" => {
            sent.pkid = body.u16();
            sent.codes.push(if level == V5 && !body.0.is_empty() { body.u8() } else { 0 });
            if !body.0.is_empty() {
                sent.read_properties(level, form, &mut body);
            }
        }
        "suback" | "unsuback" => {
            sent.pkid = body.u16();
            sent.read_properties(level, form, &mut body);
            sent.codes = body.take(body.0.len()).to_vec();
        }
        "disconnect" | "auth" => {
            sent.codes.push(if body.0.is_empty() { 0 } else { body.u8() });
            if !body.0.is_empty() {
                sent.read_properties(level, form, &mut body);
            }
        }
        _ => {}
    }
    assert!(body.0.is_empty(), "bytes follow the last field of {}", form.name);
    sent.check_codes(level, form);
    sent
}

impl Sent {
    fn read_properties(&mut self, level: u8, form: &Form, body: &mut Cursor<'_>) {
        if level != V5 {
            return;
        }
        let len = body.varint();
        let mut block = Cursor(body.take(len));
        while !block.0.is_empty() {
            let id = block.u8();
            assert!(form.properties.contains(&id), "{} does not carry property {id:#04X}", form.name);
            let once = !matches!(id, 0x0B | 0x26);
            assert!(!(once && self.property(id).is_some()), "{} has property {id:#04X} twice", form.name);
            let value = block.value(id);
            self.properties.push((id, value));
        }
    }

    fn check_codes(&self, level: u8, form: &Form) {
        for code in &self.codes {
            let allowed = match (level, form.name) {
                (V5, _) => form.codes.contains(code),
                (_, "connack") => *code <= 5,
                (_, "suback") => matches!(code, 0..=2 | 0x80),
                (_, "unsuback") => false,
                _ => *code == 0,
            };
            assert!(allowed, "{} does not carry code {code:#04X}", form.name);
        }
    }

    /// The bytes of a property, without a string's length.
    pub fn property(&self, id: u8) -> Option<&[u8]> {
        self.properties.iter().find(|(found, _)| *found == id).map(|(_, value)| &value[..])
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        self.property(id).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// All values of a property that may come more than once, in their order.
    pub fn all(&self, id: u8) -> Vec<&[u8]> {
        self.properties.iter().filter(|(found, _)| *found == id).map(|(_, value)| &value[..]).collect()
    }

    pub fn qos(&self) -> u8 {
        self.flags >> 1 & 3
    }

    pub fn is_dup(&self) -> bool {
        self.flags & 8 != 0
    }

    /// In short: what most tests compare.
    pub fn text(&self) -> String {
        let codes: Vec<String> = self.codes.iter().map(|code| format!("{code:02X}")).collect();
        let codes = codes.join(" ");
        match self.name {
            "connack" => format!("connack {codes}{}", if self.session_present { " present" } else { "" }),
            "publish" => {
                let dup = if self.is_dup() { " dup" } else { "" };
                let retain = if self.flags & 1 != 0 { " retained" } else { "" };
                format!("{}={} qos {}{dup}{retain}", self.topic, String::from_utf8_lossy(&self.payload), self.qos())
            }
            "puback" | "pubrec" | "pubrel" | "pubcomp" => format!("{} {} {codes}", self.name, self.pkid),
            "suback" | "unsuback" => format!("{} {} [{codes}]", self.name, self.pkid),
            "disconnect" | "auth" => format!("{} {codes}", self.name),
            name => name.to_owned(),
        }
    }
}

/// The reader is the judge of everything here: that it finds what is wrong is shown on packets that are.
#[test]
fn the_judge_finds_what_a_server_must_not_send() {
    let verdict = |level: u8, bytes: &[u8]| std::panic::catch_unwind(|| read(level, bytes)).is_err();
    let wrong: &[(u8, &[u8])] = &[
        (5, b"\x20\x03\x02\0\0"),                   // reserved flag of CONNACK
        (5, b"\x20\x03\0\x10\0"),                   // a code of PUBACK
        (5, b"\x20\x05\0\0\x02\x23\0"),             // a property of PUBLISH, cut off
        (5, b"\x20\x83\0\0\0\0"),                   // a length in two bytes that needs one
        (4, b"\x20\x02\0\x06"),                     // return code 6
        (4, b"\xE0\0"),                             // DISCONNECT from a server of 3.1.1
        (5, b"\x10\0"),                             // CONNECT
        (5, b"\x38\x04\0\x01a\0"),                  // DUP at QoS 0
        (5, b"\x32\x06\0\x01a\0\0\0"),              // packet identifier 0
        (5, b"\x60\x02\0\x01"),                     // flags of PUBREL
        (5, b"\xE0\x07\0\x05\x11\0\0\0\x01"),       // session expiry from a server [MQTT-3.14.2-2]
        (5, b"\xE0\x01\x04"),                       // a client's reason
        (4, b"\x90\x03\0\x01\x81"),                 // a code that 3.1.1 reserves
        (4, b"\xB0\x03\0\x01\0"),                   // codes in an UNSUBACK of 3.1.1
        (5, b"\x40\x09\0\x01\0\x04\x1F\0\0\x1F\0"), // a property twice, cut off
    ];
    for (level, bytes) in wrong {
        assert!(verdict(*level, bytes), "{bytes:02X?} was let pass");
    }
    assert_eq!(read(5, b"\x32\x06\0\x01a\0\x01\0\xD0\0")[0].text(), "a= qos 1");
}
