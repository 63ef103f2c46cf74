// Stands in for Apple's header where there is no Mac (tools/check-mac): what abseil asks for the local time zone.
#ifndef STORYFARM_TOOLS_MAC_CFTIMEZONE_H_
#define STORYFARM_TOOLS_MAC_CFTIMEZONE_H_

#include <CoreFoundation/CoreFoundation.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef const struct __CFTimeZone* CFTimeZoneRef;
typedef uint32_t CFStringEncoding;
enum { kCFStringEncodingUTF8 = 0x08000100 };

CFTimeZoneRef CFTimeZoneCopyDefault(void);
CFStringRef CFTimeZoneGetName(CFTimeZoneRef zone);
CFIndex CFStringGetLength(CFStringRef text);
CFIndex CFStringGetMaximumSizeForEncoding(CFIndex length, CFStringEncoding encoding);
Boolean CFStringGetCString(CFStringRef text, char* buffer, CFIndex size, CFStringEncoding encoding);

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_CFTIMEZONE_H_
