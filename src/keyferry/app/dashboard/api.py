"""What there is under which path. Everything that is read here the migration has said; what acts goes to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from keyferry import __version__
from keyferry.app.dashboard.acting import Acting
from keyferry.app.dashboard.guarding import Guard, Guarded, Refusal
from keyferry.app.dashboard.live import OLD_S, Live
from keyferry.app.dashboard.metrics import exposition
from keyferry.app.dashboard.models import (
    Act,
    AnswerShape,
    Cutover,
    EndedShape,
    HealthShape,
    HistoryShape,
    Nothing,
    ReportShape,
    StatusShape,
    Switch,
    Throttle,
)
from keyferry.app.dashboard.reports import Reports
from keyferry.model.errors import ExitCode, KeyferryError

BROWSERS_MAX = 32
"""That follow the events."""
RETRY_MS = 1000
"""After which a browser that has lost us comes back."""
PING_S = 5
"""A sign of life when there is nothing to tell."""
STATIC = Path(str(files("keyferry.app.dashboard") / "static"))

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": AnswerShape, "description": "No token, or a wrong one."},
    403: {"model": AnswerShape, "description": "A request of another site."},
    409: {"model": AnswerShape, "description": "The migration says no: exit code 4."},
    413: {"model": AnswerShape, "description": "Too long."},
    415: {"model": AnswerShape, "description": "No JSON."},
    422: {"model": AnswerShape, "description": "The request is wrong: exit code 2."},
    429: {"model": AnswerShape, "description": "Too many wrong tokens."},
    502: {"model": AnswerShape, "description": "A server is away, or the migration does not answer."},
}
_NOT_YET: dict[int | str, dict[str, Any]] = {503: {"model": AnswerShape, "description": "Nothing known yet."}}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "`status`: a status, at once and when it has changed, at least every 5 s. `history`: rows of the "
            "history that are newer than the last ones told; `whole`: all of them, in place of what was told. "
            "`ended`: how the run has ended; the last event."
        ),
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "x-events": {
                    "status": {"$ref": "#/components/schemas/StatusShape"},
                    "history": {"$ref": "#/components/schemas/HistoryShape"},
                    "ended": EndedShape.model_json_schema(),
                },
            }
        },
    },
    503: {"model": AnswerShape, "description": "As many follow as may."},
}
_TOKEN = HTTPBearer(auto_error=False, description="The dashboard's token, as keyferry printed it.")


@dataclass(frozen=True, slots=True)
class Served:
    """What is served to whom.

    Attributes:
        control: ``control_path`` of the run.
        token: For what acts.
        hosts: Names to answer to.
    """

    kind: Literal["migrate", "sync"]
    name: str
    control: Path
    token: str
    hosts: tuple[str, ...]


def application(served: Served, live: Live) -> ASGIApp:
    """All of it, behind the rules of who may ask."""
    app = FastAPI(
        title="Keyferry",
        version=__version__,
        description="A running migration: what it does, and what it can be asked.",
        docs_url=None,  # Both would load scripts from elsewhere.
        redoc_url=None,
        openapi_tags=[
            {"name": "looking", "description": "Changes nothing; needs no token."},
            {"name": "acting", "description": "As the commands of the same names; needs the token."},
        ],
    )
    reports = Reports(served.control)
    app.include_router(_page(reports, live))
    app.include_router(_looking(served, reports, live))
    app.include_router(_acting(Acting(served.control)))
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(HTTPException, _say_refused)
    return Guarded(app, Guard(served.hosts, served.token))


def _page(reports: Reports, live: Live) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @router.get("/report")
    async def report() -> Response:
        from keyferry.app.report_page import security_policy

        try:
            page = await reports.page(live.history)
        except KeyferryError as error:
            return _no_report(error).response(for_people=True)
        policy = f"{security_policy()}; frame-ancestors 'none'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    return router


def _looking(served: Served, reports: Reports, live: Live) -> APIRouter:
    router = APIRouter(tags=["looking"])

    @router.get("/api/status", response_model=StatusShape, responses=_NOT_YET)
    async def status() -> Response:
        """What `keyferry status --json` says."""
        return _json(live.status)

    @router.get("/api/history", response_model=HistoryShape, responses=_NOT_YET)
    async def history(
        after_ms: Annotated[
            float, Query(ge=0, description="Only rows after this Unix time in milliseconds.")
        ] = 0,
    ) -> Response:
        """How the run has gone over time, for charts."""
        return _json(live.rows_after(after_ms))

    @router.get(
        "/api/report", response_model=ReportShape, responses={404: {"model": AnswerShape}, **_NOT_YET}
    )
    async def report() -> Response:
        """What the migration has done until now. A sync has no report before its end."""
        try:
            return _json(await reports.facts())
        except KeyferryError as error:
            return _no_report(error).response()

    @router.get("/api/events", responses=_EVENTS, response_class=EventSourceResponse)
    async def events() -> Response:
        """Server-sent events: everything above as it changes."""
        if live.browsers >= BROWSERS_MAX:
            return Refusal(503, f"{BROWSERS_MAX} browsers follow this already.").response()
        return _Followed(live)

    @router.get("/healthz", response_model=HealthShape, responses={503: {"model": HealthShape}})
    async def healthz(
        within_s: Annotated[
            float, Query(gt=0, description="How old the last look may be, in seconds.")
        ] = OLD_S,
    ) -> Response:
        """503 when the last look at the run is older than that, or there is none."""
        seen, age_s = live.status, live.age_s
        ok = age_s is not None and age_s <= within_s
        health = {"ok": ok, "stage": seen["stage"] if seen else None, "age_seconds": _rounded(age_s)}
        return _json(health, 200 if ok else 503)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus; see docs/metrics.md."""
        body, content_type = exposition(live.status, live.age_s, name=served.name)
        return Response(body, headers={"Content-Type": content_type})

    return router


def _acting(acting: Acting) -> APIRouter:
    router = APIRouter(prefix="/api/actions", tags=["acting"], dependencies=[Depends(_TOKEN)])
    answers: dict[str, Any] = {"response_model": AnswerShape, "responses": _REFUSALS}

    @router.post("/pause", **answers)
    async def pause(request: Request, options: Nothing) -> Response:
        """Stops all of Keyferry's writes; changes are gathered meanwhile."""
        return await acting.answer(request, "pause", options.model_dump())

    @router.post("/unpause", **answers)
    async def unpause(request: Request, options: Nothing) -> Response:
        """Goes on after a pause."""
        return await acting.answer(request, "unpause", options.model_dump())

    @router.post("/throttle", **answers)
    async def throttle(request: Request, options: Throttle) -> Response:
        """Sets how fast it may go."""
        return await acting.answer(request, "throttle", options.model_dump())

    @router.post("/verify", **answers)
    async def verify(request: Request, options: Nothing) -> Response:
        """Compares all keys now; answers when that is done."""
        return await acting.answer(request, "verify", options.model_dump())

    @router.post("/cutover", **answers)
    async def cutover(request: Request, options: Cutover) -> Response:
        """Brings the application to the target."""
        return await acting.answer(request, "cutover", options.model_dump())

    @router.post("/rollback", **answers)
    async def rollback(request: Request, options: Switch) -> Response:
        """Brings the application back to the source."""
        return await acting.answer(request, "rollback", options.model_dump())

    @router.post("/finish", **answers)
    async def finish(request: Request, options: Act) -> Response:
        """Ends the migration where it is: there is no way back then."""
        return await acting.answer(request, "finish", options.model_dump())

    @router.post("/abort", **answers)
    async def abort(request: Request, options: Act) -> Response:
        """Ends the migration on the source."""
        return await acting.answer(request, "abort", options.model_dump())

    return router


def _no_report(error: KeyferryError) -> Refusal:
    status = 404 if error.exit_code == ExitCode.REFUSED else 503
    return Refusal(status, error.message, error.hint, error.exit_code)


class _Followed(EventSourceResponse):
    """Holds a browser's place from before its answer begins: of many that come at once each is counted."""

    def __init__(self, live: Live) -> None:
        super().__init__(_events(live), ping=PING_S)
        self._live = live
        live.come()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave()


async def _events(live: Live) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="events of a migration", retry=RETRY_MS)
    async for message in live.messages():
        yield ServerSentEvent(message.data, event=message.event)


def _json(data: Mapping[str, Any] | None, status: int = 200) -> Response:
    if data is None:
        return Refusal(503, "Nothing is known of the run yet.", "It has just begun; ask again.").response()
    return Response(json.dumps(data), status, media_type="application/json")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


async def _say_invalid(_request: Request, error: Exception) -> Response:
    """What does not fit, in the shape of every answer."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    if not where or first["type"] == "json_invalid":
        sentence = "The request has to be a JSON object."
    else:
        sentence = f"The option {where} does not fit: {first['msg']}."
    return Refusal(422, sentence, "See /openapi.json.", ExitCode.USAGE).response()


async def _say_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(
        error.status_code, f"{error.detail}.", "See /openapi.json.", ExitCode.USAGE, error.headers
    ).response()
