"""Headings and remarks of an install document, in English and Korean; services have those of their chapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labctl.errors import LabError
from labctl.operations.node import File, Operation
from labctl.services import SERVICES

_EN: Mapping[str, str] = {
    "intro": (
        "The corrected edition of the notes, made from the plan that `labctl up` runs. Commands are typed as root; "
        "the prompt says where. Made again by:"
    ),
    "The lab": "The lab",
    "node": "node",
    "cards": "cards",
    "disks": "disks",
    "runs": "runs",
    "no address": "no address",
    "disks-are": "The first disk is the system's; the others are named by their serial numbers under /dev/disk/by-id.",
    "Passwords": "Passwords",
    "passwords-are": "Choose a different random value for each, of letters and digits only (troubleshooting B12):",
    "On": "On",
    "every node": "every node",
    "prepare": "Hosts and networks",
    "prepare-is": "Every node knows its name, its cards and the other nodes.",
    "packages": "Packages",
    "packages-is": "Repositories that exist, and everything that is installed on each node.",
    "infrastructure": "Base services",
    "infrastructure-is": "What every OpenStack service stands on: time, database, message queue, cache.",
    "settle": "SELinux: what was denied",
    "settle-is": "The policy modules of the notes, each only where a daemon was denied what it allows.",
    "fixtures": "First objects",
    "fixtures-is": "What the notes create before their first server: project, user, flavors, image, networks.",
    "database": "Database and account",
    "accounts": "User, role, service and endpoints",
    "configure": "Configuration",
    "copies": "Files that other nodes need",
    "populate": "Tables and keys",
    "start": "Start",
    "objects": "What others need",
    "start-later": "Start, once the controller's services answer",
    "openrc": "Client environment scripts",
    "hosts": "Wait for the hypervisors",
    "map": "Map the hypervisors into the cell",
    "verify": "Verify",
}

_KO: Mapping[str, str] = {
    "intro": (
        "`labctl up`이 실행하는 계획에서 그대로 만든, 노트의 교정판입니다. 명령은 root로 입력하며 프롬프트가 노드를 "
        "나타냅니다. 다시 만들기:"
    ),
    "The lab": "구성",
    "node": "노드",
    "cards": "네트워크 카드",
    "disks": "디스크",
    "runs": "실행하는 구성 요소",
    "no address": "주소 없음",
    "disks-are": "첫 디스크는 시스템용이고, 나머지는 /dev/disk/by-id 아래에 일련번호로 나타납니다.",
    "Passwords": "비밀번호",
    "passwords-are": "각각 서로 다른 무작위 값을 쓰되 영문자와 숫자만 사용합니다(troubleshooting B12):",
    "On": "실행 위치:",
    "every node": "모든 노드",
    "prepare": "호스트와 네트워크",
    "prepare-is": "모든 노드가 자기 이름과 카드, 그리고 다른 노드를 알게 합니다.",
    "packages": "패키지",
    "packages-is": "실제로 존재하는 저장소를 등록하고 노드마다 필요한 것을 모두 설치합니다.",
    "infrastructure": "기반 서비스",
    "infrastructure-is": "모든 OpenStack 서비스의 바탕: 시간 동기화, 데이터베이스, 메시지 큐, 캐시.",
    "settle": "SELinux: 거부된 동작",
    "settle-is": "노트의 정책 모듈을, 지금 실행 중인 데몬이 실제로 거부당한 경우에만 설치합니다.",
    "fixtures": "첫 객체",
    "fixtures-is": "노트가 첫 서버 전에 만드는 것: 프로젝트, 사용자, flavor, 이미지, 네트워크.",
    "database": "데이터베이스와 계정",
    "accounts": "사용자, 역할, 서비스, 엔드포인트",
    "configure": "설정",
    "copies": "다른 노드에 필요한 파일",
    "populate": "테이블과 키",
    "start": "시작",
    "objects": "다른 서비스에 필요한 것",
    "start-later": "시작(컨트롤러의 서비스가 응답한 뒤)",
    "openrc": "클라이언트 환경 스크립트",
    "hosts": "하이퍼바이저 등록 확인",
    "map": "하이퍼바이저를 셀에 매핑",
    "verify": "검증",
}

LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": _EN, "ko": _KO}


@dataclass(frozen=True)
class Words:
    """The words of one language."""

    table: Mapping[str, str]

    @classmethod
    def of(cls, language: str) -> Words:
        """Return the words of a language.

        :raises LabError: the language is not supported.
        """
        if language not in LANGUAGES:
            raise LabError(f"no guide in language '{language}'; available: {', '.join(LANGUAGES)}")
        chapters = {service.name: service.words[language] for service in SERVICES}
        purposes = {f"{name}-is": purpose for name, (_, purpose) in chapters.items()}
        return cls({**LANGUAGES[language], **{name: title for name, (title, _) in chapters.items()}, **purposes})

    def say(self, key: str) -> str:
        """The words for a key."""
        return self.table[key]

    def remark(self, operation: Operation, source: str) -> str:
        """An operation's purpose and source; empty where its commands are self-explanatory."""
        if isinstance(operation, File):
            return source
        title = operation.title
        return f"{title} ({source})" if source and title else title or source
