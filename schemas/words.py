"""The closed lists of the contract. What people read in place of a word is the catalogue's business."""

from enum import StrEnum


class Kind(StrEnum):
    REPAIR = "repair"  # 部件
    INCIDENT = "incident"  # 事件


class Stage(StrEnum):
    """What has happened to the case."""

    REPORTED = "reported"  # 上报
    DISPATCHED = "dispatched"  # 派遣
    ARRIVED = "arrived"  # 到场
    FINISHED = "finished"  # 处置完毕
    APPROVED = "approved"  # 上报通过
    RETURNED = "returned"  # 返工
    SUSPENDED = "suspended"  # 挂账
    RESUMED = "resumed"  # 恢复
    CANCELLED = "cancelled"  # 作废
    PRESSED = "pressed"  # 催办
    SUPERVISED = "supervised"  # 督办
    NOTE = "note"  # 备注


class Standard(StrEnum):
    """A promised time."""

    ARRIVAL = "arrival"
    COMPLETION = "completion"


class Supervision(StrEnum):
    """In rising order."""

    NONE = "none"
    PRESSED = "pressed"  # 催办
    SUPERVISED = "supervised"  # 督办
    URGENT = "urgent"  # 紧逼督办


class Source(StrEnum):
    """Who noticed it."""

    INSPECTOR = "inspector"
    CITIZEN = "citizen"
    HOTLINE = "hotline"
    VIDEO = "video"
    IOT = "iot"
    LEADER = "leader"
    CAMPAIGN = "campaign"
    OTHER = "other"


class Phase(StrEnum):
    """Of a campaign."""

    TRIAL = "trial"
    FORMAL = "formal"


class Crs(StrEnum):
    """Coordinate reference systems: the first four are longitude and latitude in degrees, the others metres."""

    CGCS2000 = "CGCS2000"
    WGS84 = "WGS84"
    GCJ02 = "GCJ02"
    BD09 = "BD09"
    SH2000 = "SH2000"
    SHLOCAL = "SHLOCAL"


class Usage(StrEnum):
    """What an attachment shows: the find, the work or the check."""

    REPORT = "report"
    DISPOSE = "dispose"
    CHECK = "check"


class Media(StrEnum):
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
