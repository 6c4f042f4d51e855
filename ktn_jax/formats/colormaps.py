"""The two colour maps DensePose tools draw with, 256 RGB colours each, as tables.

Both are OpenCV's COLORMAP_PARULA and COLORMAP_VIRIDIS (Apache-2.0), entry for entry, since
generators were trained on pictures made with it; matplotlib's viridis (CC0) differs from
the latter by at most one step of 255.
"""

import base64

import numpy as np

_PARULA = """
H7bWQEQ&HNjW92dFENrWGnFhgm?}4$C^()cI-n&yqa;42B0s4iL98D`uN_6P97nVoNVgeEx))5n7EZquP{I;X#Sv
4;4^_(!SI!Jr&<k4A30&3)UfBj<+yr6Y17qO?WZ?v5;00#j1!vy|Xx|2E-v?{n2W;L5ZQTfN-3f2p32@vBaoh`X+
Y58s40PHIb=nPf+6{Nv4tUuPde{$p*bjWz5PjDWe%BFy))9c#5`oqeg4Gj))f9x(6ou3ihSL*=(-Vl(5{l9ii_#H
{(GiW&5RT9gkI)a0&<~N%50cLglg<v5&JC5#4VKLem&^>9%nX{$3!BReoXZNG$_k#!37^RcpvefK$Oxjy2&2dcq{
j!P#|Eax2dBmesKg4W!wadx4XMEns=pAcz7ngw6Rf)xthyGhxfrdu8LqY)ueBYov>vdtAh59^v9KetuOzarCbO(4
v#Tkzsw=dqEVZXDwWcq&r7^aoGq<8NxS=+<pf|anIk}xYxtu?_n?kyoMY@<sx|d42l});oP`i^;yOCDAkXXBpTf2
>3yo_PIie$WrXS|4MyoPMNg>Suta=n6ey@7bWfO@@teZGBwzI=nedWODvh`xA>zjltlb&<bxlfQD7zjBzrahkqxo
W5_LzHXtuZKJ+yrM_#Yy=tnxX{^0yuDximy=Sw%X0^R#x4dMzykon(V!pg#z`S6>ykEq-UdOv$$-7<4yIjq?ThO~
&(z{vIx>(k_SJ=8%+PYQSyHwn~Q{B8#-n~%YzE9x3PU62z<G)Mfz)I!8N#?;v=fXzl!$s-CL+Zpr>%~Fr#X#=HKJ
Ugo@W(vy$UE}LIrGUl^vXB&$~N}PH22Fh`OGr<%`yAUFZ|9f{Ld}?(JcJZEBw<c{M9M@)+qbfC;QnZ``ab^+$8(m
Bm3VX``{t_;voCuAN%AU`sN+_=N$U!8~W-R`s*3`?HKy*7y9rP`tcR|^A!2?6Z!QL`S%g|_z?N}5Bd8J
"""
_VIRIDIS = """
L;+Mp0#-!?S49O`Mh99(2wX-AT}BIDM-5;{4q-<SV@DBWM-yd86lX{lXh;`nNEm8J8f-`#ZAct$NF8rTA8<$@aY!
L^NF#JeBy~t7c1R|7NGNznDS1aKdPgjJM=g6tE__EXeMT^TMlyazGk-=jfJHTdMK^&(ID$kugG4%mL_35-J%mF(g
+f1tLO_N>L54v>he1S#Kt+f^Mu<O0h(Ab)K1qo_N{K#9iakw=Jx+=|Pl`NHi#t(^J5q}}Q;RxOj5$?|IaZ7~Sd2J
Xj5k`0H(QN1T#YtejWu44HD8T1V2w0kjWc46Gh>Z1WR5arjxlDAF=vi3XpS&xjxcJDFKdo3Y>qB%jxKJFE^m%4aE
>i;jx2GGEOL%4bB-%?jw^MJDt3-4caAD}jwyMLDSD16dyXi4jwpSOCw`76e~u@BjwXSQCW4M8f{rDFjwOVSC54V8
hK?kMjw6VUBZ-b9ij5+RjUtSVB8`n9j*TIYjUkYYA(4zAl8hjdj3ASYAC!zAm5U#iiyxPZADD|DnTj8piXNMa9-N
6Dorxcwi65VcAE1aIp@<)$haaMcAftvLq=q4-g(0SeBBzBSsDvY_gCwehC98rZtb!)3fhVnjD6W7huYW4Ae=M<nE
wX(svwSbKd@;3qGPZg&ws|$Tc{jLtIJtK^x^_Febv?XvKfH55y>ddnaYVmxM!;`K!EQ>yZA`*!PQz<Z#A;H-X;j5
%R>o&o$7Nc`WL(H&Uddu$%3x#5UuDZ)XUtq_&0B2ET5ir*aL-qB&{lQORCm!+deKpQ(olcXPJz=+gw#uh)k%rfNQ
>4+j@Ctx*F%%nL6z7*nAkp>**u-uJD}P*qS`m5+cv1%G^*S(t=urM-7m7;Ew$b&xZWwc-YC7_Ccxh%!rvps;33H1
Aj;t%&EXx;;T+Q98`a_(*y0)5;~CxK7~kU<;^Y|R<QeDW8S3R4?ByHp<s9+l9rWfN_U0h?<{|s%BmL(k
"""


def _table(text: str) -> np.ndarray:
    """[256, 3] u8 RGB of a table in base 85."""
    raw = base64.b85decode("".join(text.split()))
    return np.frombuffer(raw, np.uint8).reshape(256, 3)


PARULA, VIRIDIS = _table(_PARULA), _table(_VIRIDIS)  # [256, 3] u8 RGB
