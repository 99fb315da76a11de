//! Stop codes: `GH-` and four digits, also in x1 of PSCI SYSTEM_OFF. docs/codes.md lists them; a test keeps it equal.

use core::fmt;

/// Defines the codes once: number, name, text.
macro_rules! stop_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why the firmware stopped on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum StopCode {
            $(#[doc = $text] $name = $number,)*
        }

        impl StopCode {
            /// Every code, ascending.
            pub const ALL: &[StopCode] = &[$(StopCode::$name,)*];

            /// Returns the number: four decimal digits.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(StopCode::$name => $number,)* }
            }

            /// Returns what it means.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(StopCode::$name => $text,)* }
            }
        }
    };
}

stop_codes! {
    RsiVersion = 1001, "no RSI version in common with the RMM";
    RealmConfig = 1002, "the RMM did not answer RSI_VERSION, RSI_FEATURES or RSI_REALM_CONFIG, or with values it cannot have";
    OwnMemory = 1003, "a granule of the firmware's own memory is not RIPAS RAM";
    PayloadMemory = 1004, "a granule of the memory that the device tree describes is not RIPAS RAM";
    TreeAddress = 1010, "the device tree is not in private RAM outside the firmware";
    TreeStructure = 1011, "the device tree is truncated or malformed";
    TreeContent = 1012, "the device tree lacks a node or property that is needed, or has one that cannot be";
    Console = 1013, "the console cannot be mapped";
    Measure = 1020, "a realm measurement cannot be extended, or the event log is full";
    NoDeviceAssignment = 2001, "the realm was created without device assignment";
    HostInterface = 2002, "the host does not offer the RHI device-assignment interface that is needed";
    SharedWindow = 2003, "the shared window could not be made or given back";
    NoBundle = 2010, "no bundle is appended to the firmware, and none is pinned";
    BundleManifest = 2011, "the structure of the bundle does not hash to the manifest";
    BundleStructure = 2012, "the bundle is malformed";
    BundlePolicy = 2013, "the bundle's policy is malformed, or contradicts itself";
    BundleOs = 2014, "the bundle's gatehouse,os is none of half, native and unaware";
    BundleNoRange = 2015, "the bundle is pinned to the initrd range, and the device tree names none";
    BundleRangeLen = 2016, "the initrd range does not have the length of the pinned bundle";
    BundleRange = 2017, "the initrd range is not in the realm's private RAM, or overlaps the firmware";
    ConfigSpace = 3001, "configuration space cannot be reached, or a capability list, a bridge or a bus number is broken";
    RequiredMissing = 3002, "a rule of the policy wants more functions than there are";
    NotQuiet = 3003, "a function that is not accepted could not be made quiet";
    ExtraFunction = 3004, "a function that no rule of the policy takes, and the policy says stop";
    NoPolicy = 3005, "there is a function and no policy: make one with gatehouse policy init, and pack it with gatehouse pack --policy";
    InventoryChanged = 3006, "a function appeared, vanished or changed between inventory and hand-off";
    BarReadBack = 4001, "a BAR reads back other than written";
    BarSize = 4002, "a BAR has an impossible size or type";
    BarNoRoom = 4003, "no window of the host bridge has room for a BAR";
    ConfigReadBack = 4004, "a control register (command, interrupts, power, ROM, virtual functions, bridge) reads back other than written";
    DeviceReset = 4005, "the function does not come back from its reset";
    LockFailed = 4010, "the host did not lock the interface";
    NotLocked = 4011, "the RMM does not say that the interface is locked";
    VdevInfo = 4012, "RSI_VDEV_GET_INFO failed or answered outside its layout";
    RmmCall = 4013, "the RMM failed another call for the device";
    CollectFailed = 4020, "the host could not fetch or deliver evidence";
    ObjectMissing = 4021, "an object of the evidence is missing";
    ObjectEmpty = 4022, "an object of the evidence has size 0";
    ObjectTooLarge = 4023, "an object of the evidence is larger than is taken";
    HostOperationEndless = 4024, "an operation of the host did not end within its budget";
    DigestAbsent = 4030, "the RMM has no digest of an object";
    VcaDigest = 4031, "the negotiation data does not match its digest";
    CertificateDigest = 4032, "the certificate chain does not match its digest";
    MeasurementDigest = 4033, "the measurements do not match their digest";
    ReportDigest = 4034, "the interface report does not match its digest";
    LockNonceChanged = 4035, "the interface was locked again while its evidence was collected";
    StateChanged = 4036, "the interface left its state while its evidence was collected";
    NotRefreshed = 4037, "measurements or interface report were not fetched again since the lock";
    NotUnlockedBefore = 4038, "the interface was locked, started or in error before it was asked to lock";
    ReportMalformed = 4040, "the interface report is malformed";
    ReportWraps = 4041, "a range of the interface report wraps";
    ReportPastBar = 4042, "a range of the interface report ends past its BAR";
    ReportingOffset = 4043, "the MMIO reporting offset is not a multiple of a BAR";
    ReportId = 4044, "a range id of the interface report is no memory BAR of the function, or one smaller than a page";
    ReportMsix = 4045, "interface report and configuration space disagree on the MSI-X table";
    ReportNoTeeRange = 4046, "the interface report has no TEE range";
    ReportIncomplete = 4047, "the interface report does not account for every page of a BAR";
    ReportPba = 4048, "interface report and configuration space disagree on the MSI-X pending bits";
    ReportOrder = 4049, "the ranges of the interface report are not in ascending order";
    ReportOverlap = 4050, "two ranges of the interface report overlap";
    ReportDuplicate = 4051, "a range stands twice in the interface report";
    ReportNonTee = 4052, "a range of the interface report is not TEE memory, and the rule does not allow that";
    ReportFirmwareUpdate = 4060, "the interface report does not say that firmware updates are off while locked";
    ReportPlainDma = 4061, "the interface report does not say that DMA without PASID is possible";
    ReportPasid = 4062, "the interface report says that DMA with PASID is possible";
    ReportAts = 4063, "the interface report says that ATS is on";
    ReportPrs = 4064, "the interface report says that PRS is on";
    ChainMalformed = 4100, "the certificate chain or a certificate of it is malformed";
    ChainNoAnchor = 4101, "the certificate chain ends at no trust anchor of the policy";
    ChainExpired = 4102, "a certificate ended before the floor of the policy";
    ChainSignature = 4103, "a certificate is not signed by the one above it";
    ChainNotCa = 4104, "a certificate that signs another is no CA";
    ChainPathLength = 4105, "a CA has more certificates below it than it may";
    ChainCritical = 4106, "a certificate has a critical extension that the firmware does not know";
    ChainAlgorithm = 4107, "a certificate is signed by an algorithm that is too weak or unknown";
    ChainKey = 4108, "a certificate has a key that is too weak or unknown";
    ChainDeniedLeaf = 4109, "the leaf key is on the policy's deny list";
    ChainDeniedSerial = 4110, "a certificate's serial number is on the policy's deny list";
    ChainKeyUsage = 4111, "a certificate's key may not be used for what it is used for";
    ChainLimit = 4112, "the certificate chain is longer or larger than is taken";
    ChainRootHash = 4113, "the root hash of the certificate chain is not that of its root";
    VcaMalformed = 4120, "the negotiation data are malformed";
    SpdmVersion = 4121, "the SPDM version is not 1.2 or 1.3";
    SpdmAlgorithm = 4122, "the negotiated algorithms are too weak or unknown";
    ExchangeMalformed = 4123, "the measurement exchange is malformed";
    ExchangeSignature = 4124, "the measurements are not signed by the leaf key";
    ExchangeTranscript = 4125, "the leaf key signed another transcript than this one";
    SessionKey = 4126, "the RMM's session is under another key than the leaf certificate's";
    RequesterNonce = 4127, "the measurement request does not hold the firmware's nonce";
    Unsigned = 4128, "the measurements are not signed";
    EvidenceKind = 4129, "the evidence is of another kind than the rule demands";
    ContentChanged = 4130, "the device's content changed while it was measured";
    MeasurementAbsent = 4140, "a measurement that the rule has a reference for is not there";
    MeasurementMismatch = 4141, "a measurement is none of the rule's reference values";
    SvnTooLow = 4142, "a security version is lower than the rule demands";
    DeviceMode = 4143, "the device is not in its normal mode, or debug is or was on";
    MeasurementForm = 4144, "a measurement has a form that its reference cannot be compared with";
    UnknownUnit = 4150, "the device is none of the units that the rule names";
    UnitElsewhere = 4151, "the device is a unit that the policy names for another place";
    SameUnit = 4152, "two functions show one leaf key: they are one physical device";
    NoRoomInRule = 4153, "more functions prove to be what a rule takes than it wants";
    NoMode = 4154, "no hand-off mode of the rule is possible with this payload on this machine";
    NotReleased = 4155, "a device that is not to run could not be unlocked and made quiet";
    SharedFailed = 4156, "a function that must be shared could not be given its addresses";
    AuditBoot = 4900, "the policy asks for an audit: everything is recorded, nothing is accepted, no payload starts";
    MappingFailed = 5001, "the RMM refused to validate a mapping";
    MappingStaleNonce = 5002, "the RMM refused to validate a mapping under the accepted nonces";
    MappingRejected = 5003, "the host refused to map a range";
    MappingBadReply = 5004, "mapping validation answered an address outside the request";
    MappingStalled = 5005, "mapping validation made no progress";
    RangeNotDev = 5006, "a validated range is not RIPAS DEV";
    MappingOverlap = 5007, "a range to map touches the firmware or leaves the protected half";
    PartHash = 6001, "a part of the bundle does not match its hash";
    Kernel = 6002, "the kernel is not in a format or at a place that can be booted";
    FinalTree = 6003, "the final device tree could not be built";
    KernelRoom = 6004, "the kernel cannot stay where it lies, and the image has no room for it: pack again";
    KernelUnpack = 6005, "the kernel is compressed, and broken or cut";
    Overlay = 6010, "the bundle's device-tree overlay is malformed, or refers to labels";
    OverlayTarget = 6011, "a target of the overlay is not in the final tree";
    OverlayStated = 6012, "the overlay would change what the firmware states";
    StartFailed = 7001, "the host did not start the interface";
    NotStarted = 7002, "the RMM does not say that the interface is started";
    NoncesChanged = 7003, "a nonce changed after the evidence was accepted";
    NotIdle = 7004, "the device could not be made idle through its private BAR";
    DmaEnableFailed = 7005, "the RMM did not enable DMA";
    NoIdleCheck = 7006, "the device is not one that the firmware knows how to make idle";
    Memory = 8001, "the heap is exhausted";
    MisalignedLoad = 9001, "the image is not at a multiple of 2 MiB";
    TreeInImage = 9002, "the device tree lies inside the image or the area it reserves";
    NoSha256 = 9003, "the CPU has no SHA-256 instructions";
    NotEl1 = 9004, "not entered at EL1";
    BadImageSize = 9005, "the image_size of the header is impossible";
    ExceptionEarly = 9006, "an exception before the first Rust instruction, or while jumping to the payload";
    Exception = 9007, "an exception: a fault of the firmware, or a device or page that went away";
    ReportNested = 9008, "an exception or a panic while another one was being reported";
    Panic = 9009, "a panic: a fault of the firmware";
    BadSlot = 9010, "the slot of the image does not describe what the image holds";
    StackOverflow = 9011, "the stack is exhausted: a fault of the firmware";
    SError = 9012, "an SError that was not masked: memory or a device failed";
    Interrupt = 9013, "an interrupt that was not masked: a fault of the firmware";
}

impl fmt::Display for StopCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GH-{:04}", self.number())
    }
}
