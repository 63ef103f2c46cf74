// Stands in for Apple's header where there is no Mac (tools/check-mac): of CoreFoundation only what this project calls,
// declared as in Apple's published sources (CF-1153, CFBase.h, CFString.h, CFNumber.h). A Mac never sees this file.
#ifndef STORYFARM_TOOLS_MAC_COREFOUNDATION_H_
#define STORYFARM_TOOLS_MAC_COREFOUNDATION_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned char Boolean;
typedef unsigned long CFTypeID;
typedef unsigned long CFOptionFlags;
typedef long CFIndex;
typedef const void* CFTypeRef;
typedef const struct __CFString* CFStringRef;
typedef const struct __CFNumber* CFNumberRef;
typedef const struct __CFAllocator* CFAllocatorRef;
typedef const struct __CFDictionary* CFDictionaryRef;
typedef struct __CFDictionary* CFMutableDictionaryRef;
typedef const struct __CFArray* CFArrayRef;

typedef CFOptionFlags CFStringCompareFlags;
typedef CFIndex CFComparisonResult;
enum { kCFCompareLessThan = -1, kCFCompareEqualTo = 0, kCFCompareGreaterThan = 1 };
typedef CFIndex CFNumberType;
enum { kCFNumberSInt64Type = 4 };

extern const CFAllocatorRef kCFAllocatorDefault;

void CFRelease(CFTypeRef object);
CFTypeID CFGetTypeID(CFTypeRef object);
CFTypeID CFNumberGetTypeID(void);
Boolean CFNumberGetValue(CFNumberRef number, CFNumberType type, void* value);
CFComparisonResult CFStringCompare(CFStringRef one, CFStringRef other, CFStringCompareFlags options);

#define CFSTR(text) ((CFStringRef)__builtin___CFStringMakeConstantString("" text ""))

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_COREFOUNDATION_H_
