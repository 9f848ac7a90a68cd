"""Who may do what: tokens with a role, and browsers that were signed in with one."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from blemish.errors import ParameterError
from blemish.station.errors import ConflictError, NotAllowedError, UnknownError
from blemish.station.store import Database, now
from blemish.station.store.tables import SessionRow, TokenRow

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "engineer", "admin")
MAY = {
    "viewer": "look at everything",
    "operator": "send parts, decide, propose templates, report missed defects",
    "engineer": "approve templates, set thresholds, update and roll back",
    "admin": "give and take away tokens",
}


@dataclass(frozen=True)
class Person:
    """Who asks: the name that is put on record, and what they may do."""

    name: str
    role: Role
    signed_in: bool = True  # with a token, or (a viewer on this machine) without

    def may(self, role: Role) -> bool:
        """Whether they may do what `role` may: each role may do what those before it may."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def check(self, role: Role) -> None:
        """Raise NotAllowedError unless they may do what `role` may."""
        if not self.may(role):
            raise NotAllowedError(
                f"{self.name} is {_a(self.role)} here and may not do this, which takes {_a(role)} "
                f"({MAY[role]}); ask an admin for a token"
            )


ANONYMOUS = Person("somebody at this machine", "viewer", signed_in=False)


@dataclass(frozen=True)
class Token:
    """A token on record, without its secret."""

    name: str
    role: Role
    created_at: str
    revoked: bool


class People:
    """Tokens and sessions in the store, of which it knows only the SHA-256."""

    def __init__(self, database: Database, session_hours: float = 12) -> None:
        self.database, self.session_hours = database, session_hours

    def give(self, name: str, role: str) -> str:
        """A new token for `name`, shown this once; raises for a name that has one."""
        if role not in ROLES:
            raise ParameterError(f"there is no role '{role}'; give one of {', '.join(ROLES)}")
        if not (0 < len(name) <= 64 and name.isprintable() and name == name.strip()):
            raise ParameterError(
                f"'{name[:80]}' cannot be a person's name: give 1 to 64 printable characters"
            )
        token = "blemish_" + secrets.token_urlsafe(32)
        row = TokenRow(name=name, role=role, digest=_digest(token), created_at=now())
        try:
            with self.database.writing() as session:
                # A name that had its token taken away may have a new one; records keep the name.
                session.execute(
                    delete(SessionRow).where(
                        SessionRow.token_id.in_(select(TokenRow.id).filter_by(name=name))
                    )
                )
                session.execute(
                    delete(TokenRow).where(TokenRow.name == name, TokenRow.revoked_at.is_not(None))
                )
                session.add(row)
        except IntegrityError as error:
            raise ConflictError(
                f"'{name}' has a token already; take it away first, or give another name"
            ) from error
        return token

    def take_away(self, name: str) -> None:
        """Revoke the token of `name`, who is signed out everywhere; raises UnknownError."""
        with self.database.writing() as session:
            row = session.scalar(select(TokenRow).filter_by(name=name, revoked_at=None))
            if row is None:
                raise UnknownError(f"'{name[:80]}' has no token")
            row.revoked_at = now()
            session.execute(delete(SessionRow).filter_by(token_id=row.id))

    def tokens(self) -> list[Token]:
        """All that were given, by name."""
        with self.database.reading() as session:
            return [
                Token(row.name, _role(row.role), row.created_at.isoformat(), bool(row.revoked_at))
                for row in session.scalars(select(TokenRow).order_by(TokenRow.name))
            ]

    def any(self) -> bool:
        """Whether anyone has a token."""
        with self.database.reading() as session:
            found = session.scalar(select(TokenRow.id).filter_by(revoked_at=None).limit(1))
        return found is not None

    def of_token(self, token: str) -> Person | None:
        """Who has this token."""
        with self.database.reading() as session:
            row = session.scalar(select(TokenRow).filter_by(digest=_digest(token), revoked_at=None))
        return None if row is None else Person(row.name, _role(row.role))

    def sign_in(self, token: str) -> str | None:
        """The secret of a new session, for a cookie; None for a token that nobody has."""
        secret = secrets.token_urlsafe(32)
        moment = now()
        with self.database.writing() as session:
            row = session.scalar(select(TokenRow).filter_by(digest=_digest(token), revoked_at=None))
            if row is None:
                return None
            session.execute(delete(SessionRow).where(SessionRow.expires_at < moment))
            session.add(
                SessionRow(
                    digest=_digest(secret),
                    token_id=row.id,
                    created_at=moment,
                    expires_at=moment + timedelta(hours=self.session_hours),
                )
            )
        return secret

    def of_session(self, secret: str) -> Person | None:
        """Who was signed in with this session, if it has not expired."""
        query = (
            select(TokenRow)
            .join(SessionRow, SessionRow.token_id == TokenRow.id)
            .where(
                SessionRow.digest == _digest(secret),
                SessionRow.expires_at > now(),
                TokenRow.revoked_at.is_(None),
            )
        )
        with self.database.reading() as session:
            row = session.scalar(query)
        return None if row is None else Person(row.name, _role(row.role))

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self.database.writing() as session:
            session.execute(delete(SessionRow).filter_by(digest=_digest(secret)))


def _digest(secret: str) -> bytes:
    # Tokens are 32 random bytes: a slow hash, made for passwords, would add nothing.
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _role(text: str) -> Role:
    return next((role for role in ROLES if role == text), "viewer")


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"
