//! What can be wrong with a message.

/// Bytes that are no pgoutput message of protocol 1 to 4.
///
/// Says the message and the place, never the content: the bytes may be a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("pgoutput message {} is malformed at byte {offset}: {fault}", shown(*tag))]
#[diagnostic(
    code(pgstream::pgoutput::malformed),
    help(
        "The position was not acknowledged, so nothing is lost: restart to read the message again. If it fails again, \
         make sure that the slot's plugin is pgoutput and that the server speaks protocol 1 to 4 (PostgreSQL 10 to 18), \
         and report this line."
    )
)]
pub struct DecodeError {
    /// First byte of the message, which names its kind; 0 for an empty message.
    pub tag: u8,
    /// Distance from the first byte of the message to the place that is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field goes past the end of the message.
    #[error("{needed} bytes are needed and {left} are left")]
    Short {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// Bytes remain after the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// No kind of message starts with this byte here.
    #[error("no message of protocol 1 to 4 starts like this here")]
    UnknownMessage,
    /// A byte that selects what follows has no meaning.
    #[error("{} does not say what follows", shown(*.0))]
    UnknownSelector(u8),
    /// A bit that protocol 1 to 4 does not define.
    #[error("flags {0:#04x} are not defined")]
    UnknownFlags(u8),
    /// A string without its terminating zero.
    #[error("a string has no end")]
    Unterminated,
    /// A name that is not UTF-8.
    #[error("a name is not UTF-8")]
    NotUtf8,
}

/// A tag as a person reads it: `'I'`, or `0x07` when it is not printable.
fn shown(tag: u8) -> String {
    if tag.is_ascii_graphic() { format!("'{}'", char::from(tag)) } else { format!("{tag:#04x}") }
}
