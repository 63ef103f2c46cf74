// Stands in for Apple's header where there is no Mac (tools/check-mac): as in Apple's published IOKitUser, IOPMLib.h.
#ifndef STORYFARM_TOOLS_MAC_IOPMLIB_H_
#define STORYFARM_TOOLS_MAC_IOPMLIB_H_

#include <IOKit/IOKitLib.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t IOPMAssertionID;
typedef uint32_t IOPMAssertionLevel;
enum { kIOPMNullAssertionID = 0, kIOPMAssertionLevelOff = 0, kIOPMAssertionLevelOn = 255 };

#define kIOPMAssertionTypePreventUserIdleSystemSleep CFSTR("PreventUserIdleSystemSleep")

IOReturn IOPMAssertionCreateWithName(CFStringRef type, IOPMAssertionLevel level, CFStringRef name,
                                     IOPMAssertionID* assertion);
IOReturn IOPMAssertionRelease(IOPMAssertionID assertion);

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_IOPMLIB_H_
