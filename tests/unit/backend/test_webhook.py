"""News of releases are signed as Standard Webhooks say."""

from __future__ import annotations

from edge.backend.webhook import key_of, signed

# The example of the specification (standardwebhooks.com, and its reference libraries' tests).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_signature_is_that_of_the_specification_s_example() -> None:
    headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, SECRET, 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_without_a_secret_there_is_no_signature() -> None:
    assert "webhook-signature" not in signed("msg_1", BODY, "", 1)


def test_any_text_can_be_the_secret() -> None:
    assert key_of("plain") == b"plain"
    assert key_of("whsec_not base64!") == b"whsec_not base64!"
