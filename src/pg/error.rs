//! Errors with SQLSTATE, DETAIL and HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::PgSqlErrorCode;

/// An error on its way to the user.
pub struct Error(Box<ErrorReport>);

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `message` in lower case without a full stop, as Postgres has it.
    #[track_caller]
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Error(Box::new(ErrorReport::new(code, message.into(), "decisioning")))
    }

    /// A value that the caller passed is not usable.
    #[track_caller]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// Something named by the caller does not exist.
    #[track_caller]
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
    }

    /// The object is not in the state that the call needs.
    #[track_caller]
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// What we stored does not read back: a defect or a damaged row.
    #[track_caller]
    pub fn corrupted(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        Error(Box::new(self.0.set_detail(detail)))
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Error(Box::new(self.0.set_hint(hint)))
    }

    pub fn message(&self) -> &str {
        self.0.message()
    }

    /// Says it as a warning.
    pub fn warn(self) {
        self.0.report(pgrx::PgLogLevel::WARNING);
    }

    /// Says it as a notice: what may be a mistake, or may be meant.
    pub fn notice(self) {
        self.0.report(pgrx::PgLogLevel::NOTICE);
    }

    /// Raises the error where there is no other way to return it.
    pub fn raise(self) -> ! {
        self.0.report(pgrx::PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        *error.0
    }
}

impl From<pgrx::spi::SpiError> for Error {
    #[track_caller]
    fn from(error: pgrx::spi::SpiError) -> Self {
        Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("statement failed: {error}"))
    }
}

impl From<serde_json::Error> for Error {
    #[track_caller]
    fn from(error: serde_json::Error) -> Self {
        Error::corrupted(format!("stored document does not read back: {error}"))
    }
}

/// The argument, or a clear error if it is NULL.
pub fn required<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{name}\" must not be null"))
    })
}
