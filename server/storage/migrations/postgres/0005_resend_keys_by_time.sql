-- Keys of messages that may be sent again are deleted by their time, of all accounts.
CREATE INDEX resend_key_at ON resend_key (at);
